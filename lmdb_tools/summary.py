"""Reads every record of an LMDB and counts what is in it.

Spec: ssd-data.md section 1.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.desk.console import track
from caffe_ssd.errors import CaffeError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record, checked.

    Args:
        key: its key.
        fault: what is wrong with it; empty if nothing is.
        shape: (height, width, channels) it states.
        label: class number of a classification record.
        boxes: (label, difficult, corners) of each object.
    """

    key: str
    fault: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    label: int | None = None
    boxes: list[tuple[int, bool, tuple[float, float, float, float]]] = field(default_factory=list)


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


def summarise(database: str | os.PathLike[str], *, decode: bool = True) -> Summary:
    """Read every record of a database.

    Args:
        database: the LMDB.
        decode: decode the images too, to find broken ones.

    Raises:
        DataError: it cannot be read.
    """
    source = LmdbSource(database)
    keys = source.keys()
    summary = Summary()

    def check(index: int) -> Record:
        return _check(keys[index].decode(errors="replace"), source[index], decode)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(keys), 1000):  # in parts: the pool would queue all values at once
            part = range(start, min(start + 1000, len(keys)))
            what = f"read {start + len(part)} of {len(keys)}"
            for record in track(pool.map(check, part), len(part), what):
                summary.add(record)
    return summary


def _check(key: str, value: bytes, decode: bool) -> Record:
    record = AnnotatedDatum()
    try:
        record.ParseFromString(value)
    except DecodeError:
        return Record(key=key, fault="is no AnnotatedDatum")
    datum = record.datum
    shape = (datum.height, datum.width, datum.channels)
    if decode:
        try:
            found = decode_datum(datum).shape[:2]
        except CaffeError as error:
            return Record(key=key, fault=str(error))
        if found != shape[:2]:
            stated, real = f"{shape[0]}x{shape[1]}", f"{found[0]}x{found[1]}"
            return Record(key=key, fault=f"states {stated} but its image is {real} (rotated?)")
    if not record.HasField("type"):
        return Record(key=key, shape=shape, label=datum.label)
    boxes = [
        (group.group_label, b.difficult, (b.xmin, b.ymin, b.xmax, b.ymax))
        for group in record.annotation_group
        for b in (annotation.bbox for annotation in group.annotation)
    ]
    return Record(key=key, shape=shape, boxes=boxes)
