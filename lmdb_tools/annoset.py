"""Turns list lines (image, annotation) into the records of a database.

Spec: ssd-data.md sections 1 and 3.1.
Quirk: images that cannot be read are skipped with a warning; their line numbers stay unused.
Quirk: reading the list stops at the first malformed line (here with a warning).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import cast

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from caffe_ssd.random import CaffeRandom
from lmdb_tools.annotations import Annotations, Box, read_annotations
from lmdb_tools.console import track
from lmdb_tools.database import DatabaseWriter, new_database
from lmdb_tools.images import ImageOptions, image_to_datum

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What a conversion does.

    Args:
        root: put before every path as it is.
        detection: annotations rather than class numbers.
        label_type: xml, json or txt.
        name_to_label: the label map; empty for classification.
        image: how images are stored.
        check_size: refuse images whose pixel bytes differ in number from the first one's.
        repair_xml: see `read_annotations`.
    """

    root: str
    detection: bool = False
    label_type: str = "xml"
    name_to_label: Mapping[str, int] = field(default_factory=dict)
    image: ImageOptions = field(default_factory=ImageOptions)
    check_size: bool = False
    repair_xml: bool = False


@dataclass(frozen=True, kw_only=True)
class _Record:
    """One list line made ready for the database; no datum: the image was skipped."""

    path: str
    datum: AnnotatedDatum | None
    warnings: list[str]
    lost_flags: int = 0


def convert(
    lines: Sequence[tuple[str, str]], path: str, options: ConvertOptions, *, replace: bool = False
) -> int:
    """Write a database.

    Args:
        lines: image path and annotation path (or class number) per record, in order.
        path: the database.
        options: how.
        replace: put the new database in the place of an old one; otherwise it must not exist.

    Returns:
        The number of records written.

    Raises:
        FileError: the database exists or cannot be written.
        DataError: a damaged annotation, an unknown class, or not one readable image. No database
            is left behind.
    """
    with new_database(path, replace=replace) as writer:
        logger.info("Opened lmdb %s", path)
        count = _write_records(writer, lines, options)
        if lines and count == 0:
            raise DataError(
                f"not one of {len(lines)} images could be read; the first should be "
                f"{options.root + lines[0][0]} (ROOTFOLDER should end in a slash)"
            )
    if count % 1000 != 0:
        logger.info("Processed %d files.", count)
    return count


def read_list(path: str | os.PathLike[str], *, detection: bool) -> list[tuple[str, str]]:
    """The lines of a list file, up to the first malformed one.

    Raises:
        FileError: the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise FileError(f"Could not open file {path}: {error.strerror}") from error
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or not (detection or words[1].lstrip("+-").isdecimal()):
            expected = "an image and an annotation file" if detection else "an image and a number"
            logger.warning("%s:%d: expected %s, got %r; stopped", path, number, expected, line)
            break
        lines.append((words[0], words[1]))
    return lines


def shuffled(lines: Sequence[tuple[str, str]], seed: int | None) -> list[tuple[str, str]]:
    """The lines in another order; without a seed, another one each time."""
    order: list[object] = list(range(len(lines)))
    CaffeRandom(seed).shuffle(order)
    return [lines[i] for i in cast("list[int]", order)]


def _write_records(
    writer: DatabaseWriter, lines: Sequence[tuple[str, str]], options: ConvertOptions
) -> int:
    count = lost_flags = 0
    first_size: int | None = None
    records = track(_build_all(lines, options), len(lines), "convert")
    for number, record in enumerate(records):
        for warning in record.warnings:
            logger.warning("%s", warning)
        if record.datum is None:
            continue
        if options.check_size:
            datum = record.datum.datum
            if first_size is None:
                first_size = datum.channels * datum.height * datum.width
            _check_size(record.path, len(datum.data), first_size)
        writer.put(f"{number:08d}_{record.path}", record.datum.SerializeToString())
        lost_flags += record.lost_flags
        count += 1
        if count % 1000 == 0:
            logger.info("Processed %d files.", count)
    if lost_flags:
        logger.warning(
            "%d difficult flags stand behind their box and were not used, as in SSD-Caffe; "
            "--repair_xml keeps them",
            lost_flags,
        )
    return count


def _check_size(path: str, size: int, expected: int) -> None:
    if size != expected:
        raise DataError(
            f"{path}: {size} bytes of pixels, expected {expected} as the first image's shape says "
            "(--check_size fits raw pixels of one size only)"
        )


def _build_all(lines: Sequence[tuple[str, str]], options: ConvertOptions) -> Iterator[_Record]:
    """Build records in list order, some ahead of time in threads: decoding is most of the work."""
    workers = os.cpu_count() or 1
    waiting = iter(lines)
    ahead: deque[Future[_Record]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for line in islice(waiting, 4 * workers):
                ahead.append(pool.submit(_build, *line, options))
            while ahead:
                yield ahead.popleft().result()
                for line in islice(waiting, 1):
                    ahead.append(pool.submit(_build, *line, options))
        finally:
            for future in ahead:
                future.cancel()


def _build(image: str, label: str, options: ConvertOptions) -> _Record:
    loaded = image_to_datum(options.root + image, options.image)
    if loaded is None:
        warning = f"Could not open or find file {options.root}{image}; skipped"
        return _Record(path=image, datum=None, warnings=[warning])
    datum, size = loaded
    record = AnnotatedDatum(datum=datum)
    if not options.detection:
        record.datum.label = int(label)
        return _Record(path=image, datum=record, warnings=[])
    record.datum.label = -1
    annotations = read_annotations(
        options.root + label,
        label_type=options.label_type,
        image_size=size,
        name_to_label=options.name_to_label,
        repair=options.repair_xml,
    )
    if annotations is None:
        warning = f"Could not open annotation file {options.root}{label}; skipped"
        return _Record(path=image, datum=None, warnings=[warning])
    return _with_boxes(image, record, annotations)


def _with_boxes(image: str, record: AnnotatedDatum, annotations: Annotations) -> _Record:
    record.type = AnnotatedDatum.BBOX
    by_label: dict[int, list[Box]] = {}
    for box in annotations.boxes:
        by_label.setdefault(box.label, []).append(box)
    for label, boxes in by_label.items():
        group = record.annotation_group.add(group_label=label)
        for instance, box in enumerate(boxes):
            xmin, ymin, xmax, ymax = (float(v) for v in box.corners)
            bbox = group.annotation.add(instance_id=instance).bbox
            bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax = xmin, ymin, xmax, ymax
            bbox.difficult = box.difficult
    return _Record(
        path=image,
        datum=record,
        warnings=annotations.warnings,
        lost_flags=annotations.lost_flags,
    )
