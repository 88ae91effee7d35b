"""What a row needs: data, weights, room on the disk, memory.

Sizes of archives are those that the makers of the data sets state, rounded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from caffe.catalogue.published import Published
from caffe.models.data_check import needs
from caffe.models.datasets import COCO_TEST_DEV
from caffe_ssd.net.cost import FLOAT_BYTES, NetCost

LABEL_MAPS = "caffe examples ."  # writes them, and the scripts


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something that a row needs.

    Args:
        what: for people.
        path: where it is looked for.
        command: what makes it, or where it comes from.
    """

    what: str
    path: str
    command: str

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


def needs_of(row: Published) -> list[Lack]:
    """Everything that a row needs from outside, there or not, in the order in which it is made."""
    return [*_pictures_of(row), *_data_of(row), *_weights_of(row)]


def _pictures_of(row: Published) -> Iterator[Lack]:
    """The pictures of databases that are not there yet."""
    if all(each.is_there for each in _data_of(row)):
        return
    for each in PICTURES[row.data]:
        command = f"from the makers: {each.archives}, {each.gigabytes:g} GB"
        yield Lack(what=each.what, path=each.path, command=command)


def _data_of(row: Published) -> list[Lack]:
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
    return [Lack(what=need.what, path=need.path, command=need.command) for need in unique]


def _weights_of(row: Published) -> Iterator[Lack]:
    recipe = row.recipe
    if row.at_scales:
        command = f"caffe models run {row.training.name}"
        yield Lack(what="the trained model", path=row.weights, command=command)
    elif row.start is not None:
        command = f"caffe models run {row.start.name}"
        yield Lack(what="the model for COCO to start from", path=row.start.weights, command=command)
    elif recipe.weights is not None:
        command = "a classifier trained on ImageNet, which is not made here; released with SSD"
        yield Lack(what="weights to start from", path=recipe.weights, command=command)


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
    """Bytes of a pass of the row's training on one device: blobs with their gradients, weights.

    Weights count four times: with their gradients, the momentum, and the sum over passes. Scratch
    memory of single layers comes on top.

    Args:
        row: of the catalogue.
        cost: of the row's net for one image.
    """
    batch = row.recipe.schedule.batch_size
    if row.at_scales:
        batch = row.recipe.schedule.test_batch_size
        return (cost.peak_activations * batch + cost.num_parameters) * FLOAT_BYTES
    return (2 * cost.num_activations * batch + 4 * cost.num_parameters) * FLOAT_BYTES


def as_trained(row: Published) -> Published:
    """The row under whose name a training of the same net and batch is measured."""
    return replace(row, at_scales=False, flags="", from_coco=False)
