"""Result files of detections in the formats of VOC, COCO and ILSVRC.

Spec: ssd-data.md section 7.
Quirk: coordinates are rounded to 2 decimals; VOC and ILSVRC then cut x, y, width and height each to
    an integer and add them, so xmax may be one less than its own integer part.
Quirk: pixels are counted from 0 although VOC's own tools count from 1.
Quirk: names that are integers become JSON numbers in COCO files.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from caffe_ssd.documents import parse_json
from caffe_ssd.errors import DataError
from caffe_ssd.files import read_bytes, read_text

_INTEGER = re.compile(r"0|-?[1-9]\d*")
_SIDE = re.compile(r"0*[0-9]{1,9}")


class Detection(NamedTuple):
    """One detection in pixels of its image; x and y are the left and upper edge, from 0.

    `category` is the class's name in the label map, in ILSVRC files its label.
    """

    image: str
    category: str
    score: float
    x_px: float
    y_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """A line of a name-size file; pixels."""

    name: str
    height: int
    width: int


def read_name_sizes(path: str | os.PathLike[str]) -> tuple[ImageSize, ...]:
    """Read the `name height width` lines of a test set, in its order.

    Raises:
        FileError: the file cannot be read.
        DataError: a line is wrong, or there is none.
    """
    sizes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not (fields := line.split()):
            continue
        if len(fields) != 3 or not all(map(_SIDE.fullmatch, fields[1:])):
            raise DataError(f"{path}:{number}: expected 'name height width', got {line!r}")
        name, height, width = fields[0], int(fields[1]), int(fields[2])
        if height == 0 or width == 0:
            raise DataError(f"{path}:{number}: height and width must be positive, got {line!r}")
        sizes.append(ImageSize(name=name, height=height, width=width))
    if not sizes:
        raise DataError(f"{path}: no lines 'name height width'")
    return tuple(sizes)


def voc_text(detections: Iterable[Detection]) -> str:
    """Content of a VOC file, all of one class: lines `name score x1 y1 x2 y2`."""
    return "".join(f"{d.image} {d.score:g} {_corners(d)}\n" for d in detections)


def ilsvrc_text(detections: Iterable[Detection]) -> str:
    """Content of an ILSVRC file: lines `name label score x1 y1 x2 y2`."""
    return "".join(f"{d.image} {d.category} {d.score:g} {_corners(d)}\n" for d in detections)


def coco_text(detections: Iterable[Detection]) -> str:
    """Content of a COCO file, laid out as the reference does."""
    items = [coco_item(detection) for detection in detections]
    return "[\n" + ",\n".join(items) + "\n    \n]\n" if items else "[]\n"


def read_voc(path: str | os.PathLike[str], category: str) -> list[Detection]:
    """Read a VOC file of one class.

    Raises:
        FileError: the file cannot be read.
        DataError: a line is wrong.
    """
    return [
        _from_corners(path, number, line.split(), category)
        for number, line in enumerate(read_text(path).splitlines(), 1)
        if line.strip()
    ]


def read_ilsvrc(path: str | os.PathLike[str]) -> list[Detection]:
    """Read an ILSVRC file; categories are labels as text.

    Raises:
        FileError: the file cannot be read.
        DataError: a line is wrong.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not (fields := line.split()):
            continue
        label = fields.pop(1) if len(fields) > 1 else ""
        found.append(_from_corners(path, number, fields, label))
    return found


def read_coco(path: str | os.PathLike[str]) -> list[Detection]:
    """Read a COCO file.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no list of detections.
    """
    items = parse_json(read_bytes(path), os.fspath(path))
    if not isinstance(items, list):
        raise DataError(f"{path}: not a list of COCO detections: its root is no list")
    return [_from_coco(path, index, item) for index, item in enumerate(items)]


def _from_coco(path: str | os.PathLike[str], index: int, item: Any) -> Detection:
    try:
        return _finite(
            Detection(
                str(item["image_id"]),
                str(item["category_id"]),
                float(item["score"]),
                *(float(value) for value in item["bbox"]),
            )
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"{path}: not a list of COCO detections: number {index}: {error}"
        ) from error


def _finite(detection: Detection) -> Detection:
    if not all(map(math.isfinite, detection[2:])):
        raise ValueError(f"score and box must be finite, got {list(detection[2:])}")
    return detection


def _corners(d: Detection) -> str:
    x, y = int(d.x_px), int(d.y_px)
    return f"{x} {y} {x + int(d.width_px)} {y + int(d.height_px)}"


def _from_corners(
    path: str | os.PathLike[str], number: int, fields: list[str], category: str
) -> Detection:
    try:
        image, score, *corners = fields
        x1, y1, x2, y2 = map(float, corners)
        return _finite(Detection(image, category, float(score), x1, y1, x2 - x1, y2 - y1))
    except ValueError as error:
        raise DataError(f"{path}:{number}: not a line of detection results: {error}") from error


def coco_item(d: Detection) -> str:
    """An entry of a COCO file."""
    box = ",\n".join(
        f"                {value:.9g}" for value in (d.x_px, d.y_px, d.width_px, d.height_px)
    )
    return (
        "        {\n"
        f'            "image_id": {_json_name(d.image)},\n'
        f'            "category_id": {_json_name(d.category)},\n'
        f'            "bbox": [\n{box}\n            ],\n'
        f'            "score": {d.score:.9g}\n'
        "        }"
    )


def _json_name(name: str) -> str:
    return name if _INTEGER.fullmatch(name) else json.dumps(name, ensure_ascii=False)
