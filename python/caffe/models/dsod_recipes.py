"""The trainings of DSOD: variants x data sets."""

from __future__ import division

from collections import OrderedDict

from caffe.models.ablations import ABLATION_BODIES
from caffe.models.datasets import COCO, VOC0712, VOC0712_PLUS, VOC12
from caffe.models.dsod import (
    DSOD300,
    DSOD300_LITE,
    DSOD300_PLAIN,
    DSOD300_SMALLEST,
    DSOD512,
    TINY,
    DenseBody,
)
from caffe.models.recipe import NEVER, Family, Recipe, Schedule, choose
from caffe.models.shapes import SHAPES, shapes_detector, shapes_schedule
from caffe.models.ssd import LOC_WEIGHT, SEVEN_MAPS_RATIOS, SIX_MAPS_RATIOS, DetectorSpec

# SSD's rule: 4e-4 per image with batch norm, times 25 when the loss is divided by the number of
# matches. From scratch DSOD learns ten times faster.
DSOD_LR = 10 * 0.0004 * 25 / LOC_WEIGHT
# For the synthetic shapes: a lean stem, which is where most of the work is, and wider after it.
SHAPES_BODY = DenseBody(
    stem=(16, 32),
    bottleneck=48,
    growth=16,
    blocks=(2, 2, 2, 2),
    last_transition=64,
    extras=(64, 64),
)


def dsod300_detector(body):
    """Return a net of six maps of a 300 px image."""
    return DetectorSpec(
        body=body,
        steps=(8, 16, 32, 64, 100, 300),
        aspect_ratios=SIX_MAPS_RATIOS,
    )


# Name of files and folders, and net. The first is what scripts train without flags.
MODELS = OrderedDict(
    [
        ("DSOD300", ("DSOD300", dsod300_detector(DSOD300))),
        ("lite", ("DSOD300_lite", dsod300_detector(DSOD300_LITE))),
        ("smallest", ("DSOD300_smallest", dsod300_detector(DSOD300_SMALLEST))),
        ("plain", ("DSOD300_plain", dsod300_detector(DSOD300_PLAIN))),
        # A map more for the larger image. No score was published.
        (
            "DSOD512",
            (
                "DSOD512",
                DetectorSpec(
                    body=DSOD512,
                    steps=(8, 16, 32, 64, 128, 256, 512),
                    aspect_ratios=SEVEN_MAPS_RATIOS,
                    image_size=512,
                ),
            ),
        ),
        # Not published: four maps of a small image, for demos on a CPU.
        (
            "tiny",
            (
                "DSOD_tiny",
                DetectorSpec(
                    body=TINY,
                    steps=(8, 16, 32, 64),
                    aspect_ratios=((2,), (2, 3), (2, 3), (2,)),
                    image_size=128,
                ),
            ),
        ),
    ]
)
MODELS.update(
    ("ablation{}".format(row), ("DSOD300_ablation{}".format(row), dsod300_detector(body)))
    for row, body in enumerate(ABLATION_BODIES, 1)
)


def dsod(dataset, schedule, variant="DSOD300"):
    """Return a variant of `MODELS` on any data set.

    Raises:
        ValueError: an unknown variant.
    """
    name, detector = choose(MODELS, variant)
    return Recipe(name, "{}_{}".format(name, detector.resize_name), detector, dataset, schedule)


def dsod_pascal(variant="DSOD300"):
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


def dsod_pascal_plus(variant="DSOD300"):
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


def dsod_pascal12(variant="DSOD300"):
    """VOC2012 alone (comp3), tested on VOC2012: 70.8 mAP. Its script was not published."""
    schedule = dsod_pascal().schedule._replace(
        test_interval=NEVER, test_initialization=False, test_batch_size=1
    )
    return dsod(VOC12, schedule, variant)


def dsod_coco(variant="DSOD300"):
    """COCO trainval, tested on minival: 29.3 AP on test-dev 2015."""
    schedule = Schedule(
        base_lr=DSOD_LR,
        stepvalues=(80000, 140000, 200000, 260000, 320000),
        max_iter=320000,
        test_interval=NEVER,  # COCO's own metric is computed from the result files
        snapshot=10000,
        display=10,
    )
    return dsod(COCO, schedule, variant)


def dsod_shapes(variant="tiny"):
    """Five kinds of synthetic shapes."""
    recipe = dsod(SHAPES, shapes_schedule(), variant)
    if variant != "tiny":
        return recipe
    detector = shapes_detector(SHAPES_BODY)
    return recipe._replace(job="{}_{}".format(recipe.name, detector.resize_name), detector=detector)


DSOD = Family(
    name="DSOD",
    variants=tuple(MODELS),
    trainings=OrderedDict(
        [
            ("VOC0712", dsod_pascal),
            ("VOC0712Plus", dsod_pascal_plus),
            ("VOC12", dsod_pascal12),
            ("coco", dsod_coco),
            ("shapes", dsod_shapes),
        ]
    ),
)
