"""The trainings of GRP-DSOD (GFR-DSOD): variants x data sets."""

from caffe.models.datasets import VOC0712, Dataset
from caffe.models.dsod_recipes import DSOD_LR
from caffe.models.grp_dsod import GRP_DSOD300, GRP_DSOD320, GRP_TINY
from caffe.models.recipe import Recipe, Schedule, choose
from caffe.models.ssd import Detector

FEW_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
MANY_RATIOS = ((1.6, 2, 3),) * 4 + ((1.6, 2),) * 2

GRP_DSOD320_FEW_PRIORS = Detector(
    body=GRP_DSOD320,
    steps=(8, 16, 32, 64, 100, 320),
    aspect_ratios=FEW_RATIOS,
    image_size=320,
)

# Name of files and folders, and net. The first is the released script's; the paper calls it 320*.
MODELS = {
    "GRP_DSOD320": (
        "GRP_DSOD320_v2_gate",
        GRP_DSOD320_FEW_PRIORS._replace(aspect_ratios=MANY_RATIOS),
    ),
    "few_priors": ("GRP_DSOD320_few_priors", GRP_DSOD320_FEW_PRIORS),
    "GRP_DSOD300": (
        "GRP_DSOD300",
        Detector(body=GRP_DSOD300, steps=(8, 16, 32, 64, 100, 300), aspect_ratios=FEW_RATIOS),
    ),
    # Not published: four maps of a small image, for demos on a CPU.
    "tiny": (
        "GRP_DSOD_tiny",
        Detector(
            body=GRP_TINY,
            steps=(8, 16, 32, 64),
            aspect_ratios=((2,), (2, 3), (2, 3), (2,)),
            image_size=128,
        ),
    ),
}


def grp_dsod(dataset: Dataset, schedule: Schedule, variant: str = "GRP_DSOD320") -> Recipe:
    """Return a variant of `MODELS` on any data set.

    Raises:
        ValueError: an unknown variant.
    """
    name, detector = choose(MODELS, variant)
    return Recipe(name, f"{name}_{detector.resize_name}", detector, dataset, schedule)


def grp_dsod_pascal(variant: str = "GRP_DSOD320") -> Recipe:
    """VOC07+12, tested on VOC2007: 79.0 mAP (few priors 78.7, 300 px 78.5)."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(20000, 40000, 60000, 80000),
        max_iter=100000,
        test_interval=2000,
        snapshot=2000,
        test_initialization=True,
        batch_size=6,
    )
    return grp_dsod(VOC0712, schedule, variant)
