"""What a row needs: data, weights, room on the disk, memory.

Sizes of archives are those that the makers of the data sets state, rounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from caffe.catalogue.published import LOOKS, Published
from caffe.models.data_check import needs
from caffe.models.datasets import COCO_TEST_DEV
from caffe_ssd.net.cost import FLOAT_BYTES, NetCost

LABEL_MAPS = "caffe examples ."  # writes them, and the scripts


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that a row needs.

    Args:
        what: for people.
        path: where it is looked for.
        source: the command that makes it, or where it comes from.
    """

    what: str
    path: str
    source: str

    @property
    def is_there(self) -> bool:
        """Whether it exists."""
        return os.path.exists(os.path.expanduser(self.path))


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures and annotations as their makers give them out.

    Args:
        what: for people.
        path: a folder or file that is there once they are unpacked.
        archives: their names.
        gigabytes: of the archives, and about of what they hold.
    """

    what: str
    path: str
    archives: str
    gigabytes: float


_VOC2007 = Pictures(
    what="pictures and annotations of VOC2007",
    path="~/data/VOCdevkit/VOC2007/ImageSets/Main/test.txt",
    archives="VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar",
    gigabytes=0.9,
)
_VOC2012 = Pictures(
    what="pictures and annotations of VOC2012",
    path="~/data/VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
    archives="VOCtrainval_11-May-2012.tar",
    gigabytes=1.9,
)
_VOC2012_TEST = Pictures(
    what="test pictures of VOC2012",
    path="~/data/VOCdevkit/VOC2012/ImageSets/Main/test.txt",
    archives="VOC2012test.tar",
    gigabytes=1.8,
)
_COCO = Pictures(
    what="pictures and annotations of COCO 2014",
    path="~/data/coco/ImageSets/minival2014.txt",
    archives="train2014.zip and val2014.zip (into images/), annotations_trainval2014.zip, and the "
    "split of val2014 in instances_valminusminival2014.json and instances_minival2014.json; then "
    "`python -m lmdb_tools.split_coco ~/data/coco` with these three files",
    gigabytes=19.3,
)
_COCO_TEST_DEV = Pictures(
    what="test pictures of COCO 2015",
    path="~/data/coco/ImageSets/test-dev2015.txt",
    archives="test2015.zip (into images/) and image_info_test2015.zip; then `python -m "
    "lmdb_tools.split_coco ~/data/coco annotations/image_info_test-dev2015.json`",
    gigabytes=12.4,
)
PICTURES = {
    "VOC0712": (_VOC2007, _VOC2012),
    "VOC0712Plus": (_VOC2007, _VOC2012, _VOC2012_TEST),
    "VOC12": (_VOC2012, _VOC2012_TEST),
    "coco": (_COCO, _COCO_TEST_DEV),
}


def needs_of(row: Published) -> list[Need]:
    """Everything that a row needs from outside, there or not, in the order in which it is made."""
    return [*_pictures_of(row), *_data_of(row), *_weights_of(row)]


def _pictures_of(row: Published) -> Iterator[Need]:
    """The pictures of databases that are not there yet."""
    if all(each.is_there for each in _data_of(row)):
        return
    for each in PICTURES[row.data]:
        source = f"from the makers: {each.archives}, {each.gigabytes:g} GB"
        yield Need(what=each.what, path=each.path, source=source)


def _data_of(row: Published) -> list[Need]:
    dataset = row.recipe.dataset
    if row.data == "coco":
        found = [] if row.at_scales else needs(dataset, dataset, training=True)
        found += needs(COCO_TEST_DEV, COCO_TEST_DEV, training=False)
    else:
        found = needs(dataset, dataset, training=not row.at_scales)
    found = [
        need._replace(command=LABEL_MAPS) if need.path == dataset.label_map else need
        for need in found
    ]
    unique = {need.path: need for need in found}.values()
    return [Need(what=need.what, path=need.path, source=need.command) for need in unique]


def _weights_of(row: Published) -> Iterator[Need]:
    recipe = row.recipe
    if row.at_scales:
        source = f"caffe models run {row.training.name}"
        yield Need(what="the trained model", path=row.weights, source=source)
    elif row.start is not None:
        source = f"caffe models run {row.start.name}"
        yield Need(what="the model for COCO to start from", path=row.start.weights, source=source)
    elif recipe.weights is not None:
        source = "a classifier trained on ImageNet, which is not made here: its authors released it"
        yield Need(what="weights to start from", path=recipe.weights, source=source)


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Room on the disk, in bytes.

    Args:
        archives: of the pictures as they are given out.
        databases: about; pictures keep their JPEG bytes.
        snapshots: of the whole training: weights and solver states, all kept.
        num_snapshots: how many.
    """

    archives: int
    databases: int
    snapshots: int
    num_snapshots: int


def disk_of(row: Published, cost: NetCost) -> Disk:
    """What a row takes on the disk."""
    schedule: Any = row.recipe.schedule
    count = 0 if row.at_scales else -(-schedule.max_iter // schedule.snapshot)
    pictures = int(sum(each.gigabytes for each in PICTURES[row.data]) * 1e9)
    return Disk(
        archives=pictures,
        databases=pictures,
        snapshots=count * 2 * cost.num_parameters * FLOAT_BYTES,
        num_snapshots=count,
    )


def memory_of(row: Published, cost: NetCost) -> int:
    """Bytes of a pass on one device: in training, blobs with their gradients, and weights.

    Weights count four times: with their gradients, the momentum, and the sum over passes. Scratch
    memory of single layers comes on top.

    Args:
        row: of the catalogue.
        cost: of the row's net for one image.
    """
    schedule = row.recipe.schedule
    if row.at_scales:
        largest = max(float(scale) for scale in LOOKS.split()[1].split(","))
        blobs = int(cost.peak_activations * schedule.test_batch_size * largest**2)
        return (blobs + cost.num_parameters) * FLOAT_BYTES
    batch: int = schedule.batch_size
    return (2 * cost.num_activations * batch + 4 * cost.num_parameters) * FLOAT_BYTES
