"""The records of an LMDB, one by one and as a data set.

Spec: ssd-data.md section 1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.datasets.dataset import ERROR, AnnotatedPicture, Dataset, Finding, Notes
from caffe_ssd.datasets.pictures import PictureFile, exif_orientation, thumbnail_of
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from caffe_ssd.proto.label_map import read_label_map

FORMAT = "lmdb"
_AT_ONCE = 1000  # records: the pool would queue all values


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record, checked.

    Args:
        key: its key.
        fault: what is wrong with it; empty if nothing is.
        shape: (height, width, channels) it states.
        label: class number of a classification record.
        boxes: (label, difficult, corners) of each object.
        picture: what its picture is; None if it was not decoded or cannot be.
    """

    key: str
    fault: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    label: int | None = None
    boxes: list[tuple[int, bool, tuple[float, float, float, float]]] = field(default_factory=list)
    picture: PictureFile | None = None


def read_records(source: LmdbSource, *, decode: bool = True) -> Iterator[Record]:
    """Every record of a database, in its order.

    Args:
        source: the database.
        decode: decode the pictures too, to find broken ones.

    Raises:
        DataError: it cannot be read.
    """
    keys = source.keys()

    def read(index: int) -> Record:
        return _read(keys[index].decode(errors="replace"), source[index], decode)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(keys), _AT_ONCE):
            yield from pool.map(read, range(start, min(start + _AT_ONCE, len(keys))))


def read_database(
    path: str | os.PathLike[str],
    label_map: str | os.PathLike[str] | None = None,
    *,
    split: str = "",
) -> Dataset:
    """A database as a data set; broken records are left out and become findings.

    Args:
        path: the LMDB; made for detection.
        label_map: for the names of the classes; without it their numbers stand for them.
        split: what its pictures are for: train, test or nothing.

    Raises:
        CaffeError: the database or the label map cannot be read.
        DataError: there is no record with boxes.
    """
    names = {} if label_map is None else dict(read_label_map(label_map).label_to_name)
    notes = Notes()
    pictures = []
    labels: set[int] = set()
    for record in read_records(LmdbSource(path)):
        if record.picture is None:
            notes.add("broken-record", ERROR, "records that are broken", _where(record))
        elif record.label is not None:
            raise DataError(
                f"{os.fspath(path)}: record {record.key} has a class rather than boxes; this looks "
                "at data sets for detection only"
            )
        else:
            labels.update(label for label, _, _ in record.boxes)
            pictures.append(_picture(os.fspath(path), record, record.picture, names, split))
    if not pictures:
        raise DataError(f"{os.fspath(path)}: there is no record that can be used")
    if unknown := sorted(labels - names.keys()) if names else []:
        listed = ", ".join(map(str, unknown))
        notes.add("unknown-label", ERROR, f"labels that the label map does not have: {listed}")
    known = sorted(labels | (names.keys() - {0}))
    findings: list[Finding] = notes.findings()
    return Dataset(
        root=os.fspath(path),
        format=FORMAT,
        reason="an LMDB",
        pictures=pictures,
        classes=[names.get(label, str(label)) for label in known],
        findings=findings,
    )


def _where(record: Record) -> str:
    return f"{record.key}: {record.fault}"


def _picture(
    database: str, record: Record, file: PictureFile, names: dict[int, str], split: str
) -> AnnotatedPicture:
    height, width = file.size
    boxes = []
    for label, difficult, (xmin, ymin, xmax, ymax) in record.boxes:
        corners = (xmin * width, ymin * height, xmax * width, ymax * height)
        # Fractions in single precision bring whole pixels back only nearly.
        rounded = (round(value, 3) for value in corners)
        xmin, ymin, xmax, ymax = rounded
        name = names.get(label, str(label))
        boxes.append(AnnotatedBox(name, xmin, ymin, xmax, ymax, difficult))
    return AnnotatedPicture(
        path=database,
        name=record.key,
        file=file,
        boxes=boxes,
        split=split,
        annotation_path=record.key,
    )


def _read(key: str, value: bytes, decode: bool) -> Record:
    record = AnnotatedDatum()
    try:
        record.ParseFromString(value)
    except DecodeError:
        return Record(key=key, fault="is no AnnotatedDatum")
    datum = record.datum
    shape = (datum.height, datum.width, datum.channels)
    picture = None
    if decode:
        try:
            image = decode_datum(datum)
        except CaffeError as error:
            return Record(key=key, fault=str(error))
        if image.shape[:2] != shape[:2]:
            stated, real = f"{shape[0]}x{shape[1]}", f"{image.shape[0]}x{image.shape[1]}"
            return Record(key=key, fault=f"states {stated} but its image is {real} (rotated?)")
        picture = PictureFile(
            size=shape[:2],
            orientation=exif_orientation(datum.data) if datum.encoded else 1,
            channels=image.shape[2],
            digest=hashlib.sha256(datum.data).digest(),
            thumbnail=thumbnail_of(image),
        )
    if not record.HasField("type"):
        return Record(key=key, shape=shape, label=datum.label, picture=picture)
    boxes = [
        (group.group_label, b.difficult, (b.xmin, b.ymin, b.xmax, b.ymax))
        for group in record.annotation_group
        for b in (annotation.bbox for annotation in group.annotation)
    ]
    return Record(key=key, shape=shape, boxes=boxes, picture=picture)
