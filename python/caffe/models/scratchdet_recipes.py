"""The trainings of ScratchDet: variants x data sets.

Quirk: the published scripts differ in their heads: the one for VOC has no batch norm there.
"""

from collections import OrderedDict

from caffe.models.datasets import COCO, VOC0712, VOC0712_PLUS
from caffe.models.recipe import NEVER, Family, Recipe, Schedule, choose
from caffe.models.records import record
from caffe.models.scratchdet import (
    ROOT_RESNET18,
    ROOT_RESNET18_512,
    ROOT_RESNET34,
    ROOT_RESNET34_512,
    TINY_ROOT_RESNET,
)
from caffe.models.shapes import SHAPES, shapes_detector, shapes_schedule
from caffe.models.ssd import SEVEN_MAPS_RATIOS, SIX_MAPS_RATIOS, DetectorSpec

SCRATCHDET_LR = 0.05


class ScratchDetModel(
    record(
        "ScratchDetModel",
        "body",
        "label",
        ("image_size", 300),
    )
):
    """A variant of ScratchDet.

    body: see `RootResNetBody`.
    label: what names of files and folders call it.
    image_size: height and width in pixels.
    """


# The first is what the published scripts train.
MODELS = OrderedDict(
    [
        ("res34", ScratchDetModel(ROOT_RESNET34, "res34")),
        ("res18", ScratchDetModel(ROOT_RESNET18, "res18")),
        # Not published: a map more for the larger image.
        ("res34_512", ScratchDetModel(ROOT_RESNET34_512, "res34", 512)),
        ("res18_512", ScratchDetModel(ROOT_RESNET18_512, "res18", 512)),
        # Not published: four maps of a small image, for demos on a CPU.
        ("tiny", ScratchDetModel(TINY_ROOT_RESNET, "tiny", 128)),
    ]
)
# By the number of maps: steps and aspect ratios.
PRIORS = {
    4: ((8, 16, 32, 64), ((2,), (2, 3), (2, 3), (2,))),
    6: ((8, 16, 32, 64, 100, 300), SIX_MAPS_RATIOS),
    7: ((8, 16, 32, 64, 128, 256, 512), SEVEN_MAPS_RATIOS),
}


def scratchdet_detector(model, head_batch_norm):
    """Return the net of a variant."""
    steps, aspect_ratios = PRIORS[len(model.body.sources)]
    return DetectorSpec(
        body=model.body,
        steps=steps,
        aspect_ratios=aspect_ratios,
        image_size=model.image_size,
        normalizations=-1,
        head_batch_norm=head_batch_norm,
    )


def scratchdet(dataset, schedule, variant="res34"):
    """Return a variant of `MODELS` on any data set, as trained on VOC: no batch norm in the heads.

    Raises:
        ValueError: an unknown variant.
    """
    model = choose(MODELS, variant)
    detector = scratchdet_detector(model, head_batch_norm=False)
    return Recipe(
        name="ROOT_{}".format(model.label.upper()),
        job="SSD_root_{}_{}".format(model.label, detector.resize_name),
        detector=detector,
        dataset=dataset,
        schedule=schedule,
    )


def scratchdet_pascal(variant="res34"):
    """VOC07+12, tested on VOC2007: 80.4 mAP."""
    schedule = Schedule(
        base_lr=SCRATCHDET_LR,
        stepvalues=(40000, 75000, 90000, 100000),
        max_iter=100000,
        test_interval=5000,
        snapshot=5000,
        batch_size=32,
        test_batch_size=1,
        num_devices=4,
        debug_info=True,
    )
    return scratchdet(VOC0712, schedule, variant)


def scratchdet_pascal_plus(variant="res34"):
    """VOC07++12, tested on VOC2012: 78.5 mAP. Its script was not published."""
    schedule = scratchdet_pascal().schedule._replace(test_interval=NEVER, debug_info=False)
    return scratchdet(VOC0712_PLUS, schedule, variant)


def scratchdet_coco(variant="res34"):
    """COCO trainval, tested on minival: 32.7 AP on test-dev."""
    schedule = Schedule(
        base_lr=SCRATCHDET_LR,
        stepvalues=(150000, 250000, 310000, 320000),
        max_iter=325000,
        test_interval=None,
        snapshot=10000,
        batch_size=16,
        num_devices=4,
    )
    model = choose(MODELS, variant)
    detector = scratchdet_detector(model, head_batch_norm=True)
    return Recipe(
        name="ROOT_RESNet{}".format(model.image_size),
        job="SSD_0710_root_{}_coco_{}".format(model.label, detector.resize_name),
        detector=detector,
        dataset=COCO,
        schedule=schedule,
        folder="RESNet",
    )


def scratchdet_shapes(variant="tiny"):
    """Five kinds of synthetic shapes."""
    recipe = scratchdet(SHAPES, shapes_schedule(), variant)
    if variant != "tiny":
        return recipe
    detector = shapes_detector(TINY_ROOT_RESNET)
    return recipe._replace(job="SSD_root_tiny_{}".format(detector.resize_name), detector=detector)


SCRATCHDET = Family(
    name="ScratchDet",
    variants=tuple(MODELS),
    trainings=OrderedDict(
        [
            ("VOC0712", scratchdet_pascal),
            ("VOC0712Plus", scratchdet_pascal_plus),
            ("coco", scratchdet_coco),
            ("shapes", scratchdet_shapes),
        ]
    ),
)
