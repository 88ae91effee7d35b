"""Batches by number: which records they hold, and what they become.

Spec: ssd-layers.md section 8, caffe-solver.md section 8.
Quirk: records are read in key order, again and again; nothing is shuffled.

Rank r of k holds the records r, r + k, r + 2k, ... of the endless sequence. A batch depends on its
number alone, so it does not matter who computes it, or when.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.data.draws import Draws
from caffe_ssd.data.records import RecordSource
from caffe_ssd.data.samples import LABEL_COLUMNS, Annotations, RecordParser, Sample
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import DataError

Batch: TypeAlias = tuple[torch.Tensor, ...]


class Reader(ABC):
    """Computes any batch from its number alone."""

    @abstractmethod
    def read(self, batch: int) -> Batch:
        """Batch number `batch` as it travels, one tensor per top.

        Raises:
            DataError: a record is wrong; says which.
        """

    def finish(self, batch: Batch) -> Batch:
        """The same batch as layers take it, float32, on the device where it is."""
        return batch


class LabelKind(Enum):
    """What the label blob holds."""

    NONE = auto()
    """There is none."""
    CLASS = auto()
    """The class of every image, [N]."""
    BOXES = auto()
    """[1, 1, G, 8]: one row [item, label, instance_id, xmin, ymin, xmax, ymax, difficult] per box,
    or a single row of -1 in a batch without boxes."""


@dataclass(frozen=True, kw_only=True)
class BatchReader(Reader):
    """Reads any batch by its number.

    Args:
        source: the records.
        parse: reads one of them.
        transform: makes it an image for the net.
        label: kind of the label blob.
        batch_size: N, per rank.
        seed: of the augmentation; ranks with equal seeds still draw differently.
        rank: which of `world_size` readers this is.
        world_size: readers that share the records.
    """

    source: RecordSource
    parse: RecordParser
    transform: Transform
    label: LabelKind
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def read(self, batch: int) -> Batch:
        """Batch number `batch`: data [N, C, H, W] and, unless there is none, the label.

        Data are uint8 where `Transform.finish` can make them float32, a quarter of the memory.

        Raises:
            DataError: a record is wrong; names the database and the record's key.
        """
        blobs: list[NDArray[Any]] = []
        rows = []
        for item in range(self.batch_size):
            number = (batch * self.batch_size + item) * self.world_size + self.rank
            record = number % len(self.source)
            value = self.source[record]
            try:
                sample = self.parse(value)
                blob, annotations = self.transform.pixels(sample, Draws(self.seed, number))
                blobs.append(blob)
                _check_shape(blob, blobs[0])
                rows.append(self._label_rows(item, sample, annotations))
            except DataError as error:
                raise DataError(f"{self.source.where(record)} {error}") from None
        if len({blob.dtype for blob in blobs}) > 1:
            finish = self.transform.finish
            blobs = [finish(blob) if blob.dtype == np.uint8 else blob for blob in blobs]
        data = torch.from_numpy(np.stack(blobs))
        if self.label is LabelKind.NONE:
            return (data,)
        return data, torch.from_numpy(self._label_blob(np.concatenate(rows)))

    def finish(self, batch: Batch) -> Batch:
        data, *label = batch
        return (self.transform.finish(data) if data.dtype == torch.uint8 else data, *label)

    def _label_rows(
        self, item: int, sample: Sample, annotations: Annotations
    ) -> NDArray[np.float32]:
        if self.label is LabelKind.BOXES:
            return annotations.rows(item)
        return np.array([sample.class_label if self.label is LabelKind.CLASS else 0], np.float32)

    def _label_blob(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.label is LabelKind.CLASS:
            return rows
        return _box_blob(torch.from_numpy(rows)).numpy()


def join_boxes(blobs: Sequence[torch.Tensor], batch_size: int) -> torch.Tensor:
    """The label BOXES of several batches in a row, each of `batch_size` images."""
    tables = []
    for i, blob in enumerate(blobs):
        rows = blob.reshape(-1, LABEL_COLUMNS)
        table = rows[rows[:, 0] >= 0].clone()
        table[:, 0] += i * batch_size
        tables.append(table)
    return _box_blob(torch.cat(tables))


def part_of_boxes(blob: torch.Tensor, part: int, batch_size: int) -> torch.Tensor:
    """The label of batch number `part` in a label made by `join_boxes`, on the host."""
    rows = blob.reshape(-1, LABEL_COLUMNS)
    table = rows[(rows[:, 0] / batch_size).floor() == part].clone()
    table[:, 0] -= part * batch_size
    return _box_blob(table)


def _box_blob(rows: torch.Tensor) -> torch.Tensor:
    """[1, 1, G, 8] of rows [G, 8]; a single row of -1 where there is none."""
    if not len(rows):
        rows = rows.new_full((1, LABEL_COLUMNS), -1)
    return rows[None, None]


def _check_shape(blob: NDArray[Any], first: NDArray[Any]) -> None:
    if blob.shape != first.shape:
        raise DataError(
            f"comes out as {' x '.join(map(str, blob.shape))} (channels, height, width), but the "
            f"first image of its batch as {' x '.join(map(str, first.shape))}; resize_param or "
            "crop_size brings images to one size, force_color to three channels"
        )
