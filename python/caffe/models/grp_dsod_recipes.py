"""The trainings of GRP-DSOD (GFR-DSOD): variants x data sets.

Only the script for VOC07+12 was published, for the variant that the paper calls 320*. The others
use it as far as they can, and DSOD's schedules.
"""

from collections import OrderedDict

from caffe.models.datasets import COCO, VOC0712, VOC0712_PLUS, VOC12
from caffe.models.dsod_recipes import DSOD_LR, SHAPES_BODY, dsod_coco, dsod_pascal_plus
from caffe.models.grp_dsod import GRP_DSOD300, GRP_DSOD320, GRP_TINY
from caffe.models.recipe import NEVER, Family, Recipe, Schedule, choose
from caffe.models.shapes import IMAGE_SIZE, SHAPES, shapes_detector, shapes_schedule
from caffe.models.ssd import SIX_MAPS_RATIOS, DetectorSpec

BATCH_SIZE = 6

FEW_PRIORS = DetectorSpec(
    body=GRP_DSOD320,
    steps=(8, 16, 32, 64, 100, 320),
    aspect_ratios=SIX_MAPS_RATIOS,
    image_size=320,
)
# Name of files and folders, and net. The first is what the published script trains.
MODELS = OrderedDict(
    [
        (
            "GRP_DSOD320",
            (
                "GRP_DSOD320_v2_gate",
                FEW_PRIORS._replace(aspect_ratios=((1.6, 2, 3),) * 4 + ((1.6, 2),) * 2),
            ),
        ),
        ("few_priors", ("GRP_DSOD320_few_priors", FEW_PRIORS)),
        (
            "GRP_DSOD300",
            (
                "GRP_DSOD300",
                FEW_PRIORS._replace(
                    body=GRP_DSOD300, steps=(8, 16, 32, 64, 100, 300), image_size=300
                ),
            ),
        ),
        # Not published: four maps of a small image, for demos on a CPU.
        (
            "tiny",
            (
                "GRP_DSOD_tiny",
                DetectorSpec(
                    body=GRP_TINY,
                    steps=(8, 16, 32, 64),
                    aspect_ratios=((2,), (2, 3), (2, 3), (2,)),
                    image_size=128,
                ),
            ),
        ),
    ]
)


def grp_dsod(dataset, schedule, variant="GRP_DSOD320"):
    """Return a variant of `MODELS` on any data set.

    Raises:
        ValueError: an unknown variant.
    """
    name, detector = choose(MODELS, variant)
    return Recipe(name, "{}_{}".format(name, detector.resize_name), detector, dataset, schedule)


def grp_dsod_pascal(variant="GRP_DSOD320"):
    """VOC07+12, tested on VOC2007: 79.0 mAP (few priors 78.7, 300 px 78.5)."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(20000, 40000, 60000, 80000),
        max_iter=100000,
        test_interval=2000,
        snapshot=2000,
        test_initialization=True,
        batch_size=BATCH_SIZE,
    )
    return grp_dsod(VOC0712, schedule, variant)


def grp_dsod_pascal_plus(variant="GRP_DSOD320"):
    """VOC07++12, tested on VOC2012: 77.0 mAP with few priors."""
    schedule = dsod_pascal_plus().schedule._replace(batch_size=BATCH_SIZE)
    return grp_dsod(VOC0712_PLUS, schedule, variant)


def grp_dsod_pascal12(variant="GRP_DSOD320"):
    """VOC2012 alone (comp3), tested on VOC2012: 72.5 mAP."""
    schedule = grp_dsod_pascal().schedule._replace(
        test_interval=NEVER, test_initialization=False, test_batch_size=1
    )
    return grp_dsod(VOC12, schedule, variant)


def grp_dsod_coco(variant="GRP_DSOD320"):
    """COCO trainval, tested on minival: 30.0 AP on test-dev with few priors."""
    schedule = dsod_coco().schedule._replace(batch_size=BATCH_SIZE)
    return grp_dsod(COCO, schedule, variant)


def grp_dsod_shapes(variant="tiny"):
    """Five kinds of synthetic shapes."""
    recipe = grp_dsod(SHAPES, shapes_schedule(), variant)
    if variant != "tiny":
        return recipe
    body = GRP_TINY._replace(backbone=SHAPES_BODY, shallow=32).for_image(IMAGE_SIZE)
    detector = shapes_detector(body)
    return recipe._replace(job="{}_{}".format(recipe.name, detector.resize_name), detector=detector)


GRP_DSOD = Family(
    name="GRP-DSOD",
    variants=tuple(MODELS),
    trainings=OrderedDict(
        [
            ("VOC0712", grp_dsod_pascal),
            ("VOC0712Plus", grp_dsod_pascal_plus),
            ("VOC12", grp_dsod_pascal12),
            ("coco", grp_dsod_coco),
            ("shapes", grp_dsod_shapes),
        ]
    ),
)
