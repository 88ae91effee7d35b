"""What was found, as files for other programs: JSON lines, JSON, CSV, COCO, VOC.

Every file is written as the objects come, and appears under its name when all are there.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.result_reader import PREFIXES
from caffe_ssd.evaluate.result_writer import result_boxes_px
from caffe_ssd.evaluate.results import Detection, ImageSize, coco_item, voc_text
from caffe_ssd.files import atomic_writer
from caffe_ssd.scoring.detections import Detections

FORMATS = ("jsonl", "csv", "coco", "voc")

Add = Callable[[Detections, str], None]
"""Takes what was found on one picture, and the picture's name in result files."""

_COLUMNS = ("image", "frame", "label", "class", "score", "xmin", "ymin", "xmax", "ymax")
_NUMBER = re.compile(r"\d+")


def check_names(formats: tuple[str, ...], names: list[str]) -> None:
    """Make sure that result files can tell pictures apart.

    Args:
        formats: of `FORMATS`.
        names: of the pictures in result files.

    Raises:
        UsageError: they cannot; says which.
    """
    for kind in ("coco", "voc"):
        if kind not in formats:
            continue
        there: dict[str, str] = {}
        for name in names:
            written = coco_name(name) if kind == "coco" else name
            if written in there:
                raise UsageError(
                    f"format {kind} names pictures without their endings, and {written!r} would "
                    "stand for two of them; choose another format or rename one"
                )
            there[written] = name
        spaced = next((name for name in names if kind == "voc" and re.search(r"\s", name)), None)
        if spaced is not None:
            raise UsageError(f"format voc cannot hold a name with spaces, as {spaced!r}")


def coco_name(name: str) -> str:
    """How COCO knows a picture: a file of digits by its number, as 000000000139.jpg by 139."""
    return str(int(name)) if _NUMBER.fullmatch(name) else name


@contextmanager
def open_format(kind: str, stem: Path, names: Mapping[int, str]) -> Iterator[Add]:
    """Result files of one format while the block runs.

    Args:
        kind: of `FORMATS`.
        stem: the files' path without an ending; VOC's files, one per class, go to a folder of this
            name with `_voc`.
        names: of the classes in annotations, by label.

    Raises:
        FileError: a file cannot be written.
    """
    if kind == "voc":
        with ExitStack() as stack:
            yield _voc(stem.with_name(f"{stem.name}_voc"), names, stack)
        return
    with atomic_writer(stem.with_name(f"{stem.name}.{_ENDINGS[kind]}")) as file:
        if kind == "coco":
            with _listed(file, last="\n    \n]\n") as add:
                yield _coco(add, names)
        else:
            yield _json_lines(file) if kind == "jsonl" else _csv(file)


@contextmanager
def open_json(path: Path) -> Iterator[Add]:
    """A JSON list with an entry per picture, `Detections.to_dict`, while the block runs."""
    with atomic_writer(path) as file, _listed(file, last="\n]\n") as add:
        yield lambda found, _: add(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))


_ENDINGS = {"jsonl": "jsonl", "csv": "csv", "coco": "json"}


@contextmanager
def _listed(file: BinaryIO, last: str) -> Iterator[Callable[[str], None]]:
    """A JSON list whose entries are written one by one."""
    count = 0

    def add(entry: str) -> None:
        nonlocal count
        file.write(((",\n" if count else "[\n") + entry).encode())
        count += 1

    yield add
    file.write((last if count else "[]\n").encode())


def _json_lines(file: BinaryIO) -> Add:
    def add(found: Detections, _: str) -> None:
        file.write((json.dumps(found.to_dict(), ensure_ascii=False) + "\n").encode())

    return add


def _csv(file: BinaryIO) -> Add:
    def write(rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        file.write(text.getvalue().encode())

    def add(found: Detections, _: str) -> None:
        height, width = found.size
        corners = found.box.astype(np.float64).clip(0, 1) * (width, height, width, height)
        frame = "" if found.frame is None else found.frame
        write(
            [
                (found.source, frame, each.label, each.name, f"{each.score:.6g}", *box)
                for each, box in zip(found, corners.round(2).tolist(), strict=True)
            ]
        )

    write([_COLUMNS])
    return add


def _coco(add_entry: Callable[[str], None], names: Mapping[int, str]) -> Add:
    """Category ids are the label map's names where those are numbers, as COCO's, else labels."""
    numbers = {label: name for label, name in names.items() if _NUMBER.fullmatch(name)}

    def add(found: Detections, name: str) -> None:
        for _, each in _in_pixels(found, coco_name(name), numbers):
            add_entry(coco_item(each))

    return add


def _voc(folder: Path, names: Mapping[int, str], stack: ExitStack) -> Add:
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[int, BinaryIO] = {}

    def file_of(label: int) -> BinaryIO:
        if label not in files:
            path = folder / f"{PREFIXES[0]}{names.get(label, str(label))}.txt"
            files[label] = stack.enter_context(atomic_writer(path))
        return files[label]

    def add(found: Detections, name: str) -> None:
        for label, each in _in_pixels(found, name, names):
            file_of(label).write(voc_text([each]).encode())

    for label in names:
        if label != 0:  # the background
            file_of(label)
    return add


def _in_pixels(
    found: Detections, image: str, names: Mapping[int, str]
) -> Iterator[tuple[int, Detection]]:
    """Labels and entries as result files of test sets have them."""
    height, width = found.size
    boxes = result_boxes_px(found.box, ImageSize(name=image, height=height, width=width), None)
    for label, score, box in zip(
        found.label.tolist(), found.score.tolist(), boxes.tolist(), strict=True
    ):
        yield label, Detection(image, names.get(label, str(label)), score, *box)
