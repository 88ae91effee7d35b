"""The trainings of SSD with VGG16: fine-tuned from ImageNet, and from scratch.

From scratch are the experiments of the ScratchDet paper, which show that batch norm is what makes
them possible: with it in body and head the loss is smooth enough for 50 times the learning rate.
Their scripts were not published; here they have ScratchDet's schedule.
"""

from collections import OrderedDict

from caffe.models.datasets import COCO, VOC0712, VOC0712_PLUS, Augmentation
from caffe.models.recipe import NEVER, Family, Recipe, Schedule, choose
from caffe.models.records import record
from caffe.models.resnet import RESNET101_SSD
from caffe.models.shapes import SHAPES, shapes_detector, shapes_schedule
from caffe.models.ssd import SEVEN_MAPS_RATIOS, SIX_MAPS_RATIOS, DetectorSpec
from caffe.models.vgg import TINY_VGG, VGG_SSD300, VGG_SSD512, ZFBody

SSD_LR = 0.001  # 4e-5 per image, times 25 when the loss is divided by the number of matches
VGG_WEIGHTS = "models/VGGNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel"

SSD300_DETECTOR = DetectorSpec(
    body=VGG_SSD300,
    steps=(8, 16, 32, 64, 100, 300),
    aspect_ratios=SIX_MAPS_RATIOS,
    normalizations=(20, -1, -1, -1, -1, -1),
    head_batch_norm=False,
)


class SSDModel(
    record(
        "SSDModel",
        "detector",
        ("title", "SSD"),
        ("weights", VGG_WEIGHTS),
        ("faster", 1),
        ("base", "VGG"),
        ("folder", "VGGNet"),
        ("augmentation", None),
    )
):
    """A variant of SSD.

    detector: the net.
    title: first part of its job's name.
    weights: model to start from.
    faster: its learning rate over SSD's.
    base: first part of file names.
    folder: first part of folder names.
    augmentation: in place of the data set's.
    """


def _from_scratch(title, body, head, faster=1):
    """Return SSD300 without weights, with batch norm in body or head."""
    detector = SSD300_DETECTOR._replace(
        body=VGG_SSD300._replace(batch_norm=body, extras_batch_norm=head), head_batch_norm=head
    )
    return SSDModel(detector, title, weights=None, faster=faster)


# The first is what the published script trains.
MODELS = OrderedDict(
    [
        ("SSD300", SSDModel(SSD300_DETECTOR)),
        (
            "SSD512",
            SSDModel(
                DetectorSpec(
                    body=VGG_SSD512,
                    steps=(8, 16, 32, 64, 128, 256, 512),
                    aspect_ratios=SEVEN_MAPS_RATIOS,
                    image_size=512,
                    normalizations=(20, -1, -1, -1, -1, -1, -1),
                    head_batch_norm=False,
                )
            ),
        ),
        ("scratch", _from_scratch("SSD_scratch", body=False, head=False)),
        ("scratch_bn_head", _from_scratch("SSD_scratch_bn_head", body=False, head=True)),
        ("scratch_bn_body", _from_scratch("SSD_scratch_bn_body", body=True, head=False, faster=10)),
        ("scratch_bn", _from_scratch("SSD_scratch_bn", body=True, head=True, faster=50)),
        # What is known of SSD's scripts leaves open: names of weights, and for ResNet the image
        # size, the steps, and the head, which has batch norm here, as SSD's rule for rates has it.
        (
            "zf",
            SSDModel(
                SSD300_DETECTOR._replace(body=ZFBody()),
                weights="models/ZFNet/ZFNet.caffemodel",
                title="SSD_zf",  # results lie together, by this name
                base="ZF",
                folder="ZFNet",
            ),
        ),
        (
            "resnet101",
            SSDModel(
                SSD300_DETECTOR._replace(
                    body=RESNET101_SSD,
                    normalizations=-1,
                    head_batch_norm=True,
                    clip=True,
                    first_max_size=False,
                ),
                weights="models/ResNet/ResNet-101-model.caffemodel",
                faster=10,
                title="SSD_resnet101",
                base="ResNet101",
                folder="ResNet",
                augmentation=Augmentation(distortion=False, max_expand_ratio=1),
            ),
        ),
        # Not published: four maps of a small image, for demos on a CPU.
        (
            "tiny",
            SSDModel(
                DetectorSpec(
                    body=TINY_VGG,
                    steps=(8, 16, 32, 64),
                    aspect_ratios=((2,), (2, 3), (2, 3), (2,)),
                    image_size=128,
                    normalizations=(20, -1, -1, -1),
                ),
                title="SSD_tiny",
                weights=None,
                faster=50,
            ),
        ),
    ]
)


def ssd(dataset, schedule, variant="SSD300"):
    """Return a variant of `MODELS` on any data set.

    Args:
        dataset: what to learn.
        schedule: of the fine-tuned variants; those from scratch learn like ScratchDet.
        variant: which net.

    Raises:
        ValueError: an unknown variant.
    """
    model = choose(MODELS, variant)
    if model.weights is None:
        schedule = _scratch_schedule(schedule, model.faster)
    else:
        schedule = schedule._replace(base_lr=schedule.base_lr * model.faster)
    if model.augmentation is not None:
        dataset = dataset._replace(augmentation=model.augmentation)
    return Recipe(
        name=model.base,
        job="{}_{}".format(model.title, model.detector.resize_name),
        detector=model.detector,
        dataset=dataset,
        schedule=schedule,
        weights=model.weights,
        folder=model.folder,
    )


def _scratch_schedule(schedule, faster):
    return schedule._replace(
        base_lr=SSD_LR * faster,
        stepvalues=(40000, 75000, 90000, 100000),
        max_iter=100000,
        accum_batch_size=128,
    )


def ssd_pascal(variant="SSD300"):
    """VOC07+12, tested on VOC2007: 77.2 mAP."""
    schedule = Schedule(
        base_lr=SSD_LR,
        stepvalues=(80000, 100000, 120000),
        max_iter=120000,
        test_interval=10000,
        snapshot=80000,
        display=10,
        batch_size=8,
        accum_batch_size=32,
        test_batch_size=8,
        num_devices=4,
    )
    return ssd(VOC0712, schedule, variant)


def ssd_pascal_plus(variant="SSD300"):
    """VOC07++12, tested on VOC2012."""
    schedule = ssd_pascal().schedule._replace(test_interval=NEVER, test_batch_size=1)
    return ssd(VOC0712_PLUS, schedule, variant)


def ssd_coco(variant="SSD300"):
    """COCO trainval, tested on minival."""
    schedule = ssd_pascal().schedule._replace(
        stepvalues=(280000, 360000, 400000),
        max_iter=400000,
        test_interval=NEVER,  # COCO's own metric is computed from the result files
        snapshot=40000,
    )
    return ssd(COCO, schedule, variant)


def ssd_shapes(variant="tiny"):
    """Five kinds of synthetic shapes."""
    recipe = ssd(SHAPES, shapes_schedule(), variant)
    if variant != "tiny":
        return recipe
    detector = shapes_detector(TINY_VGG)
    return recipe._replace(
        job="SSD_tiny_{}".format(detector.resize_name),
        detector=detector,
        schedule=shapes_schedule(),
    )


SSD = Family(
    name="SSD",
    variants=tuple(MODELS),
    trainings=OrderedDict(
        [
            ("VOC0712", ssd_pascal),
            ("VOC0712Plus", ssd_pascal_plus),
            ("coco", ssd_coco),
            ("shapes", ssd_shapes),
        ]
    ),
)
