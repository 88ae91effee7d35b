"""Turns list lines (image, annotation) into the records of a database.

Spec: ssd-data.md sections 1 and 3.1.
Quirk: images that cannot be read are skipped with a warning; their line numbers stay unused.
Quirk (only `lenient`): reading the list stops at the first malformed line.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import cast

from caffe_ssd.data.annotation_files import (
    AnnotationFile,
    ReadingRules,
    read_annotation_file,
    whole_of,
)
from caffe_ssd.data.samples import NO_ANNOTATIONS, Annotations
from caffe_ssd.desk.console import track
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import read_text
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from caffe_ssd.random import CaffeRandom
from lmdb_tools.annotations import to_annotations
from lmdb_tools.conversion_summary import ConversionSummary
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
        rules: how annotation files are read.
        lenient: warn of what would be refused: a missing annotation file, a line that cannot be
            read, a label that is 0 or not in the map, fractions in place of pixels, no box at all.
        plain: write Datum, for Data layers, rather than AnnotatedDatum.
    """

    root: str
    detection: bool = False
    label_type: str = "xml"
    name_to_label: Mapping[str, int] = field(default_factory=dict)
    image: ImageOptions = field(default_factory=ImageOptions)
    check_size: bool = False
    rules: ReadingRules = field(default_factory=ReadingRules)
    lenient: bool = False
    plain: bool = False


@dataclass(frozen=True, kw_only=True)
class _Record:
    """One list line made ready for the database; no datum: the image was skipped."""

    path: str
    datum: AnnotatedDatum | None
    file: AnnotationFile
    annotations: Annotations = NO_ANNOTATIONS


def convert(
    lines: Sequence[tuple[str, str]], path: str, options: ConvertOptions, *, replace: bool = False
) -> ConversionSummary:
    """Write a database.

    Args:
        lines: image path and annotation path (or class number) per record, in order.
        path: the database.
        options: how.
        replace: put the new database in the place of an old one; otherwise it must not exist.

    Returns:
        What was written; it stands in the log too.

    Raises:
        FileError: the database exists or cannot be written.
        DataError: a damaged annotation, an unknown class, not one readable image, or, unless
            `options.lenient`, what that accepts. No database is left behind.
    """
    with new_database(path, replace=replace) as writer:
        logger.info("Opened lmdb %s", path)
        summary = _write_records(writer, lines, options)
        if lines and summary.num_images == 0:
            raise DataError(
                f"not one of {len(lines)} images could be read; the first should be "
                f"{options.root + lines[0][0]} (ROOTFOLDER should end in a slash)"
            )
        summary.check(path, lenient=options.lenient)
    summary.log(options.name_to_label)
    if summary.num_images % 1000 != 0:
        logger.info("Processed %d files.", summary.num_images)
    return summary


def reading_rules(*, repair_xml: bool, as_original: bool) -> ReadingRules:
    """The rules that two switches of the tools ask for.

    Raises:
        UsageError: both are set.
    """
    if repair_xml and as_original:
        raise UsageError("-repair_xml and -as_original contradict each other")
    return ReadingRules(late_difficult=repair_xml, as_original=as_original)


def read_list(
    path: str | os.PathLike[str], *, detection: bool, lenient: bool = False, blanks: bool = False
) -> list[tuple[str, str]]:
    """The lines of a list file.

    Args:
        path: the file.
        detection: the second word is a path rather than a class number.
        lenient: stop at a malformed line with a warning, rather than refuse it.
        blanks: the first path may hold blanks.

    Raises:
        FileError: the file cannot be read.
        DataError: a line is malformed.
    """
    lines: list[tuple[str, str]] = []
    for number, line in enumerate(read_text(path, errors="surrogateescape").splitlines(), 1):
        words = line.strip().rsplit(maxsplit=1) if blanks else line.split()
        if not words:
            continue
        if len(words) != 2 or not (detection or whole_of(words[1]) is not None):
            expected = "an image and an annotation file" if detection else "an image and a number"
            fault = f"{path}:{number}: expected {expected}, got {line!r}"
            if not lenient:
                raise DataError(f"{fault}; -lenient ends the list there")
            logger.warning("%s; stopped", fault)
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
) -> ConversionSummary:
    summary = ConversionSummary(is_detection=options.detection)
    first_size: int | None = None
    records = track(_build_all(lines, options), len(lines), "convert")
    for number, record in enumerate(records):
        for warning in record.file.warnings:
            logger.warning("%s", warning)
        summary.faults += record.file.faults
        summary.counts.update(record.file.counts)
        if record.datum is None:
            summary.num_skipped += 1
            continue
        if options.check_size:
            datum = record.datum.datum
            if first_size is None:
                first_size = datum.channels * datum.height * datum.width
            _check_size(record.path, len(datum.data), first_size)
        message = record.datum.datum if options.plain else record.datum
        writer.put(f"{number:08d}_{record.path}", message.SerializeToString())
        summary.add(record.annotations)
        if summary.num_images % 1000 == 0:
            logger.info("Processed %d files.", summary.num_images)
    return summary


def _check_size(path: str, size: int, expected: int) -> None:
    if size != expected:
        raise DataError(
            f"{path}: {size} bytes of pixels, expected {expected} as the first image's shape says "
            "(-check_size fits raw pixels of one size only)"
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
    file = AnnotationFile(path=options.root + label)
    loaded = image_to_datum(options.root + image, options.image)
    if loaded is None:
        file.warnings.append(f"Could not open or find file {options.root}{image}; skipped")
        return _Record(path=image, datum=None, file=file)
    datum, size = loaded
    record = AnnotatedDatum(datum=datum)
    if not options.detection:
        record.datum.label = int(label)
        return _Record(path=image, datum=record, file=file)
    record.datum.label = -1
    if os.path.lexists(file.path):
        file = read_annotation_file(file.path, label_type=options.label_type, rules=options.rules)
    else:
        file.faults.append(f"the annotation file {file.path} is missing")
        file.size = size
    annotations = to_annotations(
        file,
        label_type=options.label_type,
        image_size=size,
        name_to_label=options.name_to_label,
    )
    _add_boxes(record, annotations)
    return _Record(path=image, datum=record, file=file, annotations=annotations)


def _add_boxes(record: AnnotatedDatum, annotations: Annotations) -> None:
    """Put boxes into a record, in groups in the order in which their labels first appear."""
    record.type = AnnotatedDatum.BBOX
    labels = annotations.labels.tolist()
    for label in dict.fromkeys(labels):
        group = record.annotation_group.add(group_label=label)
        for index in (i for i, each in enumerate(labels) if each == label):
            item = group.annotation.add(instance_id=int(annotations.instance_ids[index]))
            bbox = item.bbox
            bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax = annotations.boxes[index].tolist()
            bbox.difficult = bool(annotations.difficult[index])
