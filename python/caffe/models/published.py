"""The published models: a function each."""

from caffe.models.datasets import COCO, VOC0712, VOC0712_PLUS, Dataset
from caffe.models.dsod import DSOD300, DSOD300_LITE, DSOD300_SMALLEST, TINY
from caffe.models.recipe import Recipe, Schedule
from caffe.models.ssd import LOC_WEIGHT, Detector

# SSD's rule: 4e-4 per image with batch norm, times 25 when the loss is divided by the number of
# matches. From scratch DSOD learns ten times faster.
DSOD_LR = 10 * 0.0004 * 25 / LOC_WEIGHT

DSOD300_DETECTORS = {
    variant: Detector(
        body=body,
        steps=(8, 16, 32, 64, 100, 300),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    )
    for variant, body in (
        ("DSOD300", DSOD300),
        ("lite", DSOD300_LITE),
        ("smallest", DSOD300_SMALLEST),
    )
}
# Not published: four maps of a small image, for demos on a CPU.
DSOD_TINY = Detector(
    body=TINY,
    steps=(8, 16, 32, 64),
    aspect_ratios=((2,), (2, 3), (2, 3), (2,)),
    image_size=128,
)

VARIANTS = (*DSOD300_DETECTORS, "tiny")


def dsod(dataset: Dataset, schedule: Schedule, variant: str = "DSOD300") -> Recipe:
    """Return a DSOD of one of `VARIANTS` on any data set.

    Raises:
        ValueError: an unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    if variant == "tiny":
        name, detector = "DSOD_tiny", DSOD_TINY
    else:
        name = "DSOD300" if variant == "DSOD300" else f"DSOD300_{variant}"
        detector = DSOD300_DETECTORS[variant]
    return Recipe(name, f"{name}_{detector.resize_name}", detector, dataset, schedule)


def dsod300_pascal(variant: str = "DSOD300") -> Recipe:
    """VOC07+12, tested on VOC2007: 77.7 mAP (smallest 73.6, lite 76.7)."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(20000, 40000, 60000, 80000, 100000),
        max_iter=100000,
        test_interval=2000,
        snapshot=2000,
        test_initialization=True,
    )
    return dsod(VOC0712, schedule, variant)


def dsod300_pascal_plus(variant: str = "DSOD300") -> Recipe:
    """VOC07++12, tested on VOC2012: 76.3 mAP."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(20000, 40000, 60000, 80000, 100000),
        max_iter=120000,
        test_interval=160000,  # never: the test set's annotations are not public
        snapshot=2000,
        test_batch_size=1,
    )
    return dsod(VOC0712_PLUS, schedule, variant)


def dsod300_coco(variant: str = "DSOD300") -> Recipe:
    """COCO trainval, tested on minival: 29.3 AP on test-dev 2015."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(80000, 140000, 200000, 260000, 320000),
        max_iter=320000,
        test_interval=1000000,  # never: COCO's own metric is computed from the result files
        snapshot=10000,
        display=10,
    )
    return dsod(COCO, schedule, variant)
