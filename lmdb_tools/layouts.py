"""Which images the known data sets train and test on, and where their files lie.

Spec: ssd-data.md section 3.5. Image counts are those the data sets' makers state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One image set: its name, and the folder (below the root) that has it; "" is the root."""

    name: str
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class DataLayout:
    """How a data set's lists and databases are made.

    Args:
        label_type: xml or json.
        train: list name, e.g. trainval, and the image sets whose union it is, in shuffled order;
            None for data that is only tested on.
        test: the same for testing, in the order of the image sets.
        size_file: name of the file with the test images' sizes.
        folder: where lists and label map go, relative to the checkout; "" asks the user.
        label_map: its name in that folder.
        databases: list name -> name of the LMDB; empty: <name of the folder>_<list name>_lmdb.
        test_has_annotations: whether they are public for the test images.
    """

    label_type: str
    train: tuple[str, tuple[ImageSet, ...]] | None
    test: tuple[str, tuple[ImageSet, ...]]
    size_file: str = "test_name_size.txt"
    folder: str = ""
    label_map: str = "labelmap_voc.prototxt"
    databases: Mapping[str, str] | None = None
    test_has_annotations: bool = True

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the lists: that to train on, if there is one, and that to test on."""
        return (*(() if self.train is None else (self.train[0],)), self.test[0])


_VOC2007 = "VOC2007"
_VOC2012 = "VOC2012"

LAYOUTS: Mapping[str, DataLayout] = {
    # 16551 and 4952 images.
    "voc0712": DataLayout(
        label_type="xml",
        train=(
            "trainval",
            (
                ImageSet(name="trainval", folder=_VOC2007),
                ImageSet(name="trainval", folder=_VOC2012),
            ),
        ),
        test=("test", (ImageSet(name="test", folder=_VOC2007),)),
        folder="data/VOC0712",
    ),
    # 21503 and 10991 images; the test annotations are not public.
    "voc0712plus": DataLayout(
        label_type="xml",
        train=(
            "trainval",
            (
                ImageSet(name="trainval", folder=_VOC2007),
                ImageSet(name="test", folder=_VOC2007),
                ImageSet(name="trainval", folder=_VOC2012),
            ),
        ),
        test=("test", (ImageSet(name="test", folder=_VOC2012),)),
        folder="data/VOC0712Plus",
        test_has_annotations=False,
    ),
    # 11540 and 10991 images; the test annotations are not public.
    "voc12": DataLayout(
        label_type="xml",
        train=("trainval", (ImageSet(name="trainval", folder=_VOC2012),)),
        test=("test", (ImageSet(name="test", folder=_VOC2012),)),
        folder="data/VOC12",
        test_has_annotations=False,
    ),
    # 118287 and 5000 images.
    "coco": DataLayout(
        label_type="json",
        train=("train", (ImageSet(name="train2014"), ImageSet(name="valminusminival2014"))),
        test=("minival", (ImageSet(name="minival2014"),)),
        size_file="minival2014_name_size.txt",
        folder="data/coco",
        label_map="labelmap_coco.prototxt",
        databases={"train": "coco_train_lmdb", "minival": "coco_minival_lmdb"},
    ),
    # 20288 images; the annotations are not public: the server scores.
    "coco_test_dev": DataLayout(
        label_type="json",
        train=None,
        test=("test-dev", (ImageSet(name="test-dev2015"),)),
        size_file="test-dev2015_name_size.txt",
        folder="data/coco",
        label_map="labelmap_coco.prototxt",
        databases={"test-dev": "coco_test-dev_lmdb"},
        test_has_annotations=False,
    ),
    # Any folder in VOC layout: Annotations/, JPEGImages/, ImageSets/Main/{trainval,test}.txt.
    "voc": DataLayout(
        label_type="xml",
        train=("trainval", (ImageSet(name="trainval"),)),
        test=("test", (ImageSet(name="test"),)),
        label_map="labelmap.prototxt",
    ),
}
