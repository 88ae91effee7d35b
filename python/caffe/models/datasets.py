"""The data sets that detectors are trained on: where they lie and how they are scored.

Paths are relative to the folder that training starts in, and are those of SSD's data scripts.
"""

from typing import Any, NamedTuple

from google.protobuf import text_format

from caffe.proto import caffe_pb2

MEAN_BGR = (104, 117, 123)
LARGE_IMAGE_PX = 512


class PriorRatios(NamedTuple):
    """Sizes of the priors in percent of the image: larger objects need larger ones.

    first: smallest and largest size on the finest map.
    lowest: smallest size on the second map.
    highest: smallest size on the last map but one, about; the step between maps is whole.
    """

    first: "tuple[int, int]"
    lowest: int
    highest: int

    def sizes(self, image_size: int, num_maps: int) -> "tuple[list[float], list[float]]":
        """Return min_size and max_size of each map in pixels.

        Raises:
            ValueError: fewer than three maps.
        """
        if num_maps < 3:
            raise ValueError(f"prior sizes need at least 3 maps, got {num_maps}")
        step = (self.highest - self.lowest) // (num_maps - 2)
        lowest = [self.first[0]] + [self.lowest + step * i for i in range(num_maps - 1)]
        highest = [self.first[1]] + [ratio + step for ratio in lowest[1:]]
        return (
            [image_size * ratio / 100 for ratio in lowest],
            [image_size * ratio / 100 for ratio in highest],
        )


class Augmentation(NamedTuple):
    """How training images are varied; the defaults are SSD's.

    distortion: vary brightness, contrast, hue and saturation.
    max_expand_ratio: half of the images lie on a canvas up to this much larger; 1 for none.
    min_scale: smallest side of a random crop, as a fraction of the image's.
    overlaps: one crop each must overlap an object at least so much (IoU).
    """

    distortion: bool = True
    max_expand_ratio: float = 4.0
    min_scale: float = 0.3
    overlaps: "tuple[float, ...]" = (0.1, 0.3, 0.5, 0.7, 0.9)


class Dataset(NamedTuple):
    """A data set for training and scoring.

    name: part of file names.
    train_data: data base of annotated images.
    test_data: data base of annotated images.
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
    preparation: command that makes the data bases, the lists and the sizes.
    """

    name: str
    train_data: str
    test_data: str
    label_map: str
    name_size_file: str
    num_test_image: int
    num_classes: int
    output_format: str
    output_prefix: str
    results: str
    use_difficult: bool = True
    force_color: bool = False
    prior_ratios: PriorRatios = PriorRatios(first=(10, 20), lowest=20, highest=90)
    large_prior_ratios: PriorRatios = PriorRatios(first=(7, 15), lowest=15, highest=90)
    augmentation: Augmentation = Augmentation()
    preparation: str = ""

    def ratios_for(self, image_size: int) -> PriorRatios:
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


def read_label_map(path: str) -> "dict[int, str]":
    """Return label -> name to show of a label map file.

    Raises:
        ValueError: the file is missing, is no LabelMap, or has no items.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ValueError(f"cannot read label map {path}: {error.strerror}") from error
    label_map: Any = caffe_pb2.LabelMap()
    try:
        text_format.Merge(text, label_map)
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no label map: {error}") from error
    if not label_map.item:
        raise ValueError(f"label map {path} has no items")
    return {item.label: item.display_name or item.name for item in label_map.item}


def count_classes(label_map: str) -> int:
    """Return the number of classes of a label map file, the background included."""
    return max(read_label_map(label_map)) + 1


def count_lines(path: str) -> int:
    """Return the number of non-empty lines of a name-size file.

    Raises:
        ValueError: the file is missing or empty.
    """
    try:
        with open(path, encoding="utf-8") as file:
            number = sum(1 for line in file if line.strip())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if number == 0:
        raise ValueError(f"{path} has no lines")
    return number
