"""The data sets that detectors are trained on: where they lie and how they are scored.

Paths are relative to the folder that training starts in, and are those of SSD's data scripts.
"""

from __future__ import division

import io

from google.protobuf import text_format

from caffe.models.records import record
from caffe.proto import caffe_pb2

MEAN_BGR = (104, 117, 123)
LARGE_IMAGE_PX = 512


class PriorRatios(
    record(
        "PriorRatios",
        "first",
        "lowest",
        "highest",
    )
):
    """Sizes of the priors in percent of the image: larger objects need larger ones.

    first: smallest and largest size on the finest map.
    lowest: smallest size on the second map.
    highest: smallest size on the last map but one, about; the step between maps is whole.
    """

    def sizes(self, image_size, num_maps):
        """Return min_size and max_size of each map in pixels.

        Raises:
            ValueError: fewer than three maps.
        """
        if num_maps < 3:
            raise ValueError("prior sizes need at least 3 maps, got {}".format(num_maps))
        step = (self.highest - self.lowest) // (num_maps - 2)
        lowest = [self.first[0]] + [self.lowest + step * i for i in range(num_maps - 1)]
        highest = [self.first[1]] + [ratio + step for ratio in lowest[1:]]
        return (
            [image_size * ratio / 100 for ratio in lowest],
            [image_size * ratio / 100 for ratio in highest],
        )


class Augmentation(
    record(
        "Augmentation",
        ("distortion", True),
        ("max_expand_ratio", 4.0),
        ("min_scale", 0.3),
        ("overlaps", (0.1, 0.3, 0.5, 0.7, 0.9)),
        ("crops", True),
    )
):
    """How training images are varied; the defaults are SSD's.

    distortion: vary brightness, contrast, hue and saturation.
    max_expand_ratio: half of the images lie on a canvas up to this much larger; 1 for none.
    min_scale: smallest side of a random crop, as a fraction of the image's.
    overlaps: one crop each must overlap an object at least so much (IoU).
    crops: random crops beside the whole image; without them the two fields above mean nothing.
    """


class Dataset(
    record(
        "Dataset",
        "name",
        "train_data",
        "test_data",
        "label_map",
        "name_size_file",
        "num_test_image",
        "num_classes",
        "output_format",
        "output_prefix",
        "results",
        ("use_difficult", True),
        ("force_color", False),
        ("prior_ratios", PriorRatios(first=(10, 20), lowest=20, highest=90)),
        ("large_prior_ratios", PriorRatios(first=(7, 15), lowest=15, highest=90)),
        ("augmentation", Augmentation()),
        ("preparation", ""),
    )
):
    """A data set for training and scoring.

    name: part of file names.
    train_data: database of annotated images.
    test_data: database of annotated images.
    label_map: prototxt of class names.
    name_size_file: `name height width` of each test image, in the order of `test_data`.
    num_test_image: images in `test_data`.
    num_classes: with the background.
    output_format: of result files: VOC, COCO or ILSVRC.
    output_prefix: of the names of result files.
    results: folder of result files in the home folder; `{job}` is filled in.
    use_difficult: train on objects marked difficult (COCO: crowd).
    force_color: read grey images as colour.
    prior_ratios: see `PriorRatios`.
    large_prior_ratios: the same for images of 512 px and more, which show smaller objects.
    augmentation: see `Augmentation`.
    preparation: command that makes the databases, the lists and the sizes.
    """

    def ratios_for(self, image_size):
        """Return the prior sizes for square images of `image_size` pixels."""
        return self.large_prior_ratios if image_size >= LARGE_IMAGE_PX else self.prior_ratios


VOC0712 = Dataset(
    name="VOC0712",
    train_data="examples/VOC0712/VOC0712_trainval_lmdb",
    test_data="examples/VOC0712/VOC0712_test_lmdb",
    label_map="data/VOC0712/labelmap_voc.prototxt",
    name_size_file="data/VOC0712/test_name_size.txt",
    num_test_image=4952,
    num_classes=21,
    output_format="VOC",
    output_prefix="comp4_det_test_",
    results="data/VOCdevkit/results/VOC2007/{job}/Main",
    preparation="python -m lmdb_tools.make_lmdb --layout voc0712 ~/data/VOCdevkit",
)

# Trained on VOC2007 trainval + test and VOC2012 trainval; the test set has no public annotations.
VOC0712_PLUS = VOC0712._replace(
    name="VOC0712Plus",
    train_data="examples/VOC0712Plus/VOC0712Plus_trainval_lmdb",
    test_data="examples/VOC0712Plus/VOC0712Plus_test_lmdb",
    label_map="data/VOC0712Plus/labelmap_voc.prototxt",
    name_size_file="data/VOC0712Plus/test_name_size.txt",
    num_test_image=10991,
    # The original writes to VOC2007 here too, over the results of VOC0712.
    results="data/VOCdevkit/results/VOC2012/{job}/Main",
    preparation="python -m lmdb_tools.make_lmdb --layout voc0712plus ~/data/VOCdevkit",
)

# Trained on VOC2012 trainval only (comp3: no other data), tested like the above.
VOC12 = VOC0712_PLUS._replace(
    name="VOC12",
    train_data="examples/VOC12/VOC12_trainval_lmdb",
    test_data="examples/VOC12/VOC12_test_lmdb",
    label_map="data/VOC12/labelmap_voc.prototxt",
    name_size_file="data/VOC12/test_name_size.txt",
    output_prefix="comp3_det_test_",
    # Not beside those of VOC0712Plus: one folder holds one row's results.
    results="data/VOCdevkit/results/VOC2012/{job}_comp3/Main",
    preparation="python -m lmdb_tools.make_lmdb --layout voc12 ~/data/VOCdevkit",
)

COCO = Dataset(
    name="coco",
    train_data="examples/coco/coco_train_lmdb",
    test_data="examples/coco/coco_minival_lmdb",
    label_map="data/coco/labelmap_coco.prototxt",
    name_size_file="data/coco/minival2014_name_size.txt",
    num_test_image=5000,
    num_classes=81,
    output_format="COCO",
    output_prefix="detections_minival_ssd300_results",
    results="data/mscoco/results/{job}",
    use_difficult=False,
    force_color=True,
    prior_ratios=PriorRatios(first=(7, 15), lowest=15, highest=90),
    large_prior_ratios=PriorRatios(first=(4, 10), lowest=10, highest=90),
    preparation="python -m lmdb_tools.make_lmdb --layout coco ~/data/coco",
)

# COCO's test set: the server of its makers has the annotations, and wants the results named so.
COCO_TEST_DEV = COCO._replace(
    test_data="examples/coco/coco_test-dev_lmdb",
    name_size_file="data/coco/test-dev2015_name_size.txt",
    num_test_image=20288,
    output_prefix="detections_test-dev2015_{name}_results",
    preparation="python -m lmdb_tools.make_lmdb --layout coco_test_dev ~/data/coco",
)


def read_label_map(path):
    """Return label -> name to show of a label map file.

    Raises:
        ValueError: the file is missing, is no LabelMap, or has no items.
    """
    try:
        with io.open(path, encoding="utf-8") as file:
            text = file.read()
    except EnvironmentError as error:
        raise ValueError("cannot read label map {}: {}".format(path, error.strerror))
    label_map = caffe_pb2.LabelMap()
    try:
        text_format.Merge(text, label_map)
    except text_format.ParseError as error:
        raise ValueError("{} is no label map: {}".format(path, error))
    if not label_map.item:
        raise ValueError("label map {} has no items".format(path))
    return {item.label: item.display_name or item.name for item in label_map.item}


def count_classes(label_map):
    """Return the number of classes of a label map file, the background included."""
    return max(read_label_map(label_map)) + 1


def count_lines(path):
    """Return the number of non-empty lines of a name-size file.

    Raises:
        ValueError: the file is missing or empty.
    """
    try:
        with io.open(path, encoding="utf-8") as file:
            number = sum(1 for line in file if line.strip())
    except EnvironmentError as error:
        raise ValueError("cannot read {}: {}".format(path, error.strerror))
    if number == 0:
        raise ValueError("{} has no lines".format(path))
    return number
