"""What a worker does with a part of a plan: read its pictures, look at them, write one file.

A picture that cannot be read is an entry with an `error` in the results, so that no picture of the
plan is without one.
"""

from __future__ import annotations

import importlib
import json
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from caffe_ssd.data.decode import ColorMode, decode_datum, decode_picture, read_picture
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.data.samples import parse_picture
from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import CaffeError, DataError, FileError, UsageError
from caffe_ssd.files import atomic_writer
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.part_plan import FilesPart, LmdbPart, Part, Plan, TarPart
from caffe_ssd.scoring.reading import Named
from caffe_ssd.scoring.sources import PICTURE_ENDINGS, Picture, PictureFile

Entry = dict[str, Any]
"""`Detections.to_dict`, or the name of a picture as `image` and why it was not read as `error`."""

MOST_TRIES = 4
"""How often a part is begun in a run before it is taken for what ends its workers."""

_THREADS = 4
_LARGEST_BYTES = 1 << 28  # of a picture's file in a shard; a larger one is taken for damaged


class Unread(NamedTuple):
    """A picture that cannot be read."""

    name: str
    error: str


class Done(NamedTuple):
    """What became of a part.

    Args:
        pictures: how many it has, those that cannot be read included.
        unread: how many of them cannot be read.
        objects: how many were found.
    """

    pictures: int
    unread: int
    objects: int


def do_part(detector: Detector, plan: Plan, number: int) -> Done:
    """Look at a part's pictures and write its results.

    Args:
        detector: looks.
        plan: has the part.
        number: of the part.

    Raises:
        CaffeError: the part as a whole cannot be read, or the file not be written; or its workers
            died of it again and again, and somebody should look at it.
    """
    _begin(plan, number)
    entries = list(look_at(detector, plan.parts[number]))
    write_entries(plan.result(number), plan.format, entries)
    plan.tries(number).unlink(missing_ok=True)
    unread = sum("error" in entry for entry in entries)
    objects = sum(len(entry.get("detections", ())) for entry in entries)
    return Done(len(entries), unread, objects)


def _begin(plan: Plan, number: int) -> None:
    """Note that the part is begun, and refuse to if its workers always die of it."""
    path = plan.tries(number)
    try:
        with open(path, "ab") as file:
            begun = file.tell()
            file.write(b".")
    except OSError as error:
        raise FileError(f"Could not write file {path}: {error.strerror}") from error
    if begun >= MOST_TRIES:
        raise DataError(
            f"was begun {begun} times and never ended: does a picture take all memory? Not tried "
            "again in this run"
        )


def look_at(detector: Detector, part: Part) -> Iterator[Entry]:
    """An entry for every picture of a part, in order; batches are those of the part alone."""
    pictures = read_part(part, ahead=2 * detector.batch)
    while batch := list(islice(pictures, detector.batch)):
        good = [each for each in batch if isinstance(each, Named)]
        found = iter(detector.find(good, at_least=detector.batch) if good else [])
        for each in batch:
            if isinstance(each, Named):
                yield next(found).to_dict()
            else:
                yield {"image": each.name, "error": each.error}


def read_part(part: Part, *, ahead: int) -> Iterator[Named | Unread]:
    """The pictures of a part in order, decoded by threads ahead of their turn.

    Args:
        part: of a plan.
        ahead: how many pictures may wait.

    Raises:
        FileError: the shard or database cannot be opened.
        DataError: it is damaged.
    """
    waiting: deque[tuple[str, Future[Picture]]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, load in _loads(part):
            waiting.append((name, pool.submit(load)))
            if len(waiting) > ahead:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def write_entries(path: Path, format: str, entries: Iterable[Entry]) -> None:
    """Write results; the file appears whole or not at all.

    Args:
        path: the file.
        format: "jsonl", an entry per line, or "parquet", a row per picture with lists.
        entries: one per picture.

    Raises:
        FileError: it cannot be written.
        UsageError: the package for Parquet is not there.
    """
    with atomic_writer(path) as file:
        if format == "jsonl":
            for entry in entries:
                file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
        else:
            arrow, parquet = _arrow()
            parquet.write_table(arrow.Table.from_pylist(_rows(entries), _schema(arrow)), file)


def _rows(entries: Iterable[Entry]) -> list[Entry]:
    names = ("label", "class", "score", "box", "box_px")
    rows = []
    for entry in entries:
        row = {name: value for name, value in entry.items() if name != "detections"}
        if "detections" in entry:
            row |= {name: [each[name] for each in entry["detections"]] for name in names}
        rows.append(row)
    return rows


def _schema(arrow: Any) -> Any:
    return arrow.schema(
        {
            "image": arrow.string(),
            "width": arrow.int32(),
            "height": arrow.int32(),
            "error": arrow.string(),
            "label": arrow.list_(arrow.int32()),
            "class": arrow.list_(arrow.string()),
            "score": arrow.list_(arrow.float32()),
            "box": arrow.list_(arrow.list_(arrow.float32())),
            "box_px": arrow.list_(arrow.list_(arrow.int32())),
        }
    )


def _arrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError(
            f"Parquet files need the package pyarrow: {install_hint('ray')}"
        ) from error


def check_format(format: str) -> None:
    """Make sure that a format can be written.

    Raises:
        UsageError: the package for Parquet is not there.
    """
    if format == "parquet":
        _arrow()


def _finished(name: str, future: Future[Picture]) -> Named | Unread:
    try:
        return Named(name, future.result(), PictureFile(Path(name)))
    except CaffeError as error:
        return Unread(name, str(error))


def _loads(part: Part) -> Iterator[tuple[str, Callable[[], Picture]]]:
    """Each picture's name, and what reads or decodes it."""
    if isinstance(part, FilesPart):
        for path in part.paths:
            yield path, partial(_of_file, path)
    elif isinstance(part, TarPart):
        for name, data in _members(part.path):
            yield name, partial(_of_bytes, name, data)
    else:
        yield from _records(part)


def _of_file(path: str) -> Picture:
    return read_picture(path).astype(np.uint8, copy=False)


def _of_bytes(name: str, data: bytes) -> Picture:
    try:
        return decode_picture(data, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _members(path: str) -> Iterator[tuple[str, bytes]]:
    """The pictures in a tar file, read as a stream; nothing is unpacked to a disk."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                if not (member.isfile() and member.name.lower().endswith(PICTURE_ENDINGS)):
                    continue
                file = archive.extractfile(member)
                assert file is not None
                data = file.read() if member.size <= _LARGEST_BYTES else b""
                yield f"{path}/{member.name}", data
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a tar file: {error}") from error
    except OSError as error:
        reason = error.strerror if error.strerror else str(error)
        raise FileError(f"Could not open file {path}: {reason}") from error


def _records(part: LmdbPart) -> Iterator[tuple[str, Callable[[], Picture]]]:
    source = _database(part.path)
    keys = source.keys()
    if len(keys) < part.stop:
        raise DataError(f"{part.path}: has {len(keys)} records; the plan was made with more")
    for index in range(part.start, part.stop):
        name = f"{part.path}:{keys[index].decode(errors='replace')}"
        yield name, partial(_of_record, name, source[index])


@lru_cache(maxsize=4)
def _database(path: str) -> LmdbSource:
    """A worker has many parts of one database, and listing its keys takes a while."""
    return LmdbSource(path)


def _of_record(name: str, value: bytes) -> Picture:
    try:
        pixels = decode_datum(parse_picture(value).datum, ColorMode.COLOR)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        shape = " x ".join(map(str, pixels.shape))
        raise DataError(f"{name}: is no 8-bit picture with 1 or 3 channels ({shape})")
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
