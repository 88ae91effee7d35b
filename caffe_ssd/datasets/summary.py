"""Reads every record of an LMDB and counts what is in it.

Spec: ssd-data.md section 1.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.datasets.database import Record, read_records


@dataclass(kw_only=True)
class Summary:
    """What all records together hold; `scale` is the square root of a box's share of the area."""

    num_records: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)
    shapes: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    images_of: Counter[int] = field(default_factory=Counter)
    boxes_of: Counter[int] = field(default_factory=Counter)
    difficult_of: Counter[int] = field(default_factory=Counter)
    scales: list[float] = field(default_factory=list)
    boxes_per_image: Counter[int] = field(default_factory=Counter)
    num_empty: int = 0
    num_outside: int = 0

    def add(self, record: Record) -> None:
        """Count one record in."""
        self.num_records += 1
        if record.fault:
            self.broken.append((record.key, record.fault))
            return
        self.shapes[record.shape] += 1
        if record.label is not None:
            self.images_of[record.label] += 1
            return
        self.boxes_per_image[len(record.boxes)] += 1
        self.images_of.update({label for label, _, _ in record.boxes})
        for label, difficult, (xmin, ymin, xmax, ymax) in record.boxes:
            self.boxes_of[label] += 1
            self.difficult_of[label] += difficult
            area = max(0.0, xmax - xmin) * max(0.0, ymax - ymin)
            self.num_empty += area == 0
            self.num_outside += min(xmin, ymin) < 0 or max(xmax, ymax) > 1
            self.scales.append(area**0.5)


Watch = Callable[[Iterable[Record], int, str], Iterable[Record]]
"""Passes records on, and shows that they come: all of them, how many there are, and a text."""


def _unseen(records: Iterable[Record], total: int, what: str) -> Iterable[Record]:
    return records


def summarise(
    database: str | os.PathLike[str], *, decode: bool = True, watch: Watch = _unseen
) -> Summary:
    """Read every record of a database.

    Args:
        database: the LMDB.
        decode: decode the images too, to find broken ones.
        watch: what records pass through on their way.

    Raises:
        DataError: it cannot be read.
    """
    source = LmdbSource(database)
    summary = Summary()
    for record in watch(read_records(source, decode=decode), len(source), "read"):
        summary.add(record)
    return summary
