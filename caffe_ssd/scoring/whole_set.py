"""Lets a net see every record of its database exactly once.

Spec: ssd-data.md section 5. The reference's readers start over in mid-batch, so that the first
records count twice unless the batch size divides their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from caffe_ssd.data.batches import BatchReader, LabelKind
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.net import Net


def passes_over_set(net: Net) -> int | None:
    """How many passes the records of the net's first data layer need; None without one."""
    for _, reader in record_readers(net):
        return math.ceil(len(reader.source) / reader.batch_size)
    return None


def end_with_set(net: Net) -> None:
    """Make every data layer hand out a smaller batch where its records end for the first time."""
    for layer, reader in record_readers(net):
        layer.register_forward_hook(_Trim(reader))


def record_readers(net: Net) -> Iterator[tuple[RecordLayer, BatchReader]]:
    """The data layers that walk through numbered records; random windows have no end."""
    for layer in net.layers:
        if isinstance(layer, RecordLayer) and isinstance(layer.loader.reader, BatchReader):
            yield layer, layer.loader.reader


class _Trim:
    """Cuts off what the batch in which the records end repeats from the beginning."""

    def __init__(self, reader: BatchReader) -> None:
        self._label = reader.label
        self._batch_size = reader.batch_size
        self._num_records = len(reader.source)
        self._seen = 0

    def __call__(self, module: nn.Module, inputs: Any, tops: Any) -> Any:
        keep = self._num_records - self._seen
        self._seen += self._batch_size
        if not 0 < keep < self._batch_size:
            return tops
        if isinstance(tops, Tensor):
            return tops[:keep]
        data, label = tops
        if self._label is LabelKind.BOXES:
            return data[:keep], _rows_of(label, keep)
        return data[:keep], label[:keep]


def _rows_of(label: Tensor, num_items: int) -> Tensor:
    """The boxes of the first items, (1, 1, G, 8); a single row of -1 if they have none."""
    rows = label[0, 0]
    rows = rows[rows[:, 0] < num_items]
    if not len(rows):
        rows = torch.full((1, label.shape[3]), -1.0)
    return rows[None, None]
