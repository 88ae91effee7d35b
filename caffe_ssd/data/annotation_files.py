"""Reads one picture's annotation file: VOC's XML, COCO's JSON cut per image, plain text.

Conversion and evaluation both read here; classes are names, boxes are pixels as written.

Spec: ssd-data.md section 2.
Quirk: pixel coordinates are taken as they are, 1-based VOC values too.
Quirk: boxes outside the image, or with edges swapped, are kept as they are.
Quirk: in XML a difficult flag that follows its box is lost, unless `late_difficult` is set.
Quirk (only `as_original`): a coordinate or size with decimals counts as none, and `difficult` is
    exactly `1`.
Quirk (not kept): an XML object without a box is skipped; the reference stores an empty box.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from caffe_ssd.documents import parse_json, parse_xml
from caffe_ssd.errors import DataError
from caffe_ssd.files import read_bytes

CORNERS = ("xmin", "ymin", "xmax", "ymax")
MAX_BYTES = 1 << 26
"""The longest annotation file of one picture."""

_WHOLE = re.compile(r"\s*[+-]?\d{1,18}\s*")
_NUMBER = re.compile(r"\s*[+-]?(\d{1,300}\.?\d{0,300}|\.\d{1,300})([eE][+-]?\d{1,3})?\s*")
_TRUE, _FALSE = ("1", "true", "yes", "y", "t"), ("0", "false", "no", "n", "f", "")
_LARGEST = float(np.finfo(np.float32).max)
_TXT_LINE = "'label xmin ymin xmax ymax' in pixels"


class AnnotatedBox(NamedTuple):
    """One object as its file states it; the class is a label map's name, in txt files its label."""

    category: str
    xmin_px: float
    ymin_px: float
    xmax_px: float
    ymax_px: float
    is_difficult: bool

    @property
    def corners_px(self) -> tuple[float, float, float, float]:
        """(xmin, ymin, xmax, ymax)."""
        return self[1:5]


@dataclass(frozen=True, kw_only=True)
class ReadingRules:
    """How much of the original's reading is kept.

    Args:
        late_difficult: in XML, use a difficult flag that stands behind its box.
        as_original: read a coordinate with decimals as 0 and `difficult` only as `1`.
    """

    late_difficult: bool = False
    as_original: bool = False


@dataclass(kw_only=True)
class AnnotationFile:
    """What one file holds.

    Args:
        path: the file.
        size: (height, width) that it states, in pixels; None if it states none.
        boxes: in file order.
        faults: what cannot be right, each a sentence that names the file. Who cannot live with a
            fault must refuse the file.
        warnings: what is odd, likewise.
        counts: how often a value was repaired or dropped, by a description.
    """

    path: str
    size: tuple[int, int] | None = None
    boxes: list[AnnotatedBox] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read_annotation_file(
    path: str | os.PathLike[str], *, label_type: str, rules: ReadingRules | None = None
) -> AnnotationFile:
    """Read one file.

    Args:
        path: the file.
        label_type: xml, json or txt.
        rules: None reads everything as it is meant, but for late difficult flags.

    Raises:
        FileError: the file cannot be read.
        DataError: it is damaged, or the label type is unknown.
    """
    readers = {"xml": _XmlReader, "json": _JsonReader, "txt": _TxtReader}
    if label_type not in readers:
        raise DataError(f"label_type is {label_type!r}; allowed: {', '.join(readers)}")
    reader = readers[label_type](os.fspath(path), ReadingRules() if rules is None else rules)
    reader.read(read_bytes(path, limit=MAX_BYTES))
    return reader.found


class _Reader:
    """Fills `found` from a file's content."""

    def __init__(self, path: str, rules: ReadingRules) -> None:
        self.path = path
        self.rules = rules
        self.found = AnnotationFile(path=path)

    def read(self, data: bytes) -> None:
        raise NotImplementedError

    def add(
        self, category: str, corners: tuple[float, float, float, float], is_difficult: bool
    ) -> None:
        """Note a box; fractions of the image are no pixels."""
        if all(0 <= value <= 1 for value in corners) and any(value % 1 for value in corners):
            shown = " ".join(f"{value:g}" for value in corners)
            self.found.faults.append(
                f"{self.path}: the box {shown} of {category!r} is in fractions of the image, as "
                "YOLO's are (centre, width, height); corners in pixels are needed"
            )
        self.found.boxes.append(AnnotatedBox(category, *corners, is_difficult))

    def set_size(self, height: object, width: object) -> None:
        sides = [self._side(value) if isinstance(value, str) else None for value in (height, width)]
        if sides[0] is not None and sides[1] is not None:
            self.found.size = sides[0], sides[1]

    def _side(self, text: str) -> int | None:
        value = number_of(text)
        if value is None or (self.rules.as_original and whole_of(text) is None):
            return None
        return int(value) if abs(value) < 2**31 else None


class _XmlReader(_Reader):
    def read(self, data: bytes) -> None:
        root = parse_xml(data, self.path)
        if root.tag != "annotation":
            raise DataError(f"{self.path}: the root element is <{root.tag}>, not <annotation>")
        self.set_size(root.findtext("size/height"), root.findtext("size/width"))
        for node in root.iterfind("object"):
            self._object(node)

    def _object(self, node: ElementTree.Element) -> None:
        """Walk an <object> in file order, as the reference does; normally it has one box."""
        first = len(self.found.boxes)
        name: str | None = None
        pending, difficult = False, False
        for child in node:
            text = child.text if child.text is not None else ""
            if child.tag == "name":
                self._note_boxless(name, pending)
                name, pending = text.strip(), True
            elif child.tag == "difficult":
                difficult = self._flag(text)
                if difficult and not pending and len(self.found.boxes) > first:
                    self._late_flag()
            elif child.tag == "bndbox":
                if name is None:
                    name, pending = (node.findtext("name") or "").strip(), True
                if not name:
                    raise DataError(f"{self.path}: an <object> has no <name>")
                if not pending:  # a second box of the same object takes the place of the first
                    self.found.boxes.pop()
                xmin, ymin, xmax, ymax = (self._coordinate(child, side) for side in CORNERS)
                self.add(name, (xmin, ymin, xmax, ymax), difficult)
                pending = False
        self._note_boxless(name, pending)

    def _late_flag(self) -> None:
        box = self.found.boxes[-1]
        if box.is_difficult:
            return
        if self.rules.late_difficult:
            self.found.boxes[-1] = box._replace(is_difficult=True)
        else:
            self.found.counts["difficult flags behind their box, not used"] += 1

    def _note_boxless(self, name: str | None, pending: bool) -> None:
        if pending:
            self.found.warnings.append(f"{self.path} object {name!r} has no <bndbox>; skipped.")
            self.found.counts["objects without a box, left out"] += 1

    def _flag(self, text: str) -> bool:
        if self.rules.as_original:
            return text == "1"
        word = text.strip().lower()
        if word not in (*_TRUE, *_FALSE):
            self.found.faults.append(
                f"{self.path}: <difficult> is {text[:40]!r}; allowed: 0, 1, true, false"
            )
        return word in _TRUE

    def _coordinate(self, node: ElementTree.Element, name: str) -> float:
        text = node.findtext(name)
        value = None if text is None else number_of(text)
        if text is None or value is None:
            what = "is missing" if text is None else f"is {text.strip()[:40]!r}, not a number"
            self.found.faults.append(f"{self.path}: <{name}> of a box {what}")
            return 0
        if self.rules.as_original and whole_of(text) is None:
            self.found.warnings.append(
                f"{self.path} <{name}> {text!r} is not a whole number; 0 is used."
            )
            self.found.counts["coordinates with decimals, read as 0"] += 1
            return 0
        return value


class _JsonReader(_Reader):
    def read(self, data: bytes) -> None:
        # Numbers stay text: the category is looked up as it is written, 18 as "18".
        root = parse_json(data, self.path, numbers_as_text=True)
        if not isinstance(root, dict):
            raise DataError(f"{self.path}: the JSON root is no object with 'image', 'annotation'")
        image = root.get("image")
        image = image if isinstance(image, dict) else {}
        self.set_size(image.get("height"), image.get("width"))
        items = root.get("annotation")
        if not isinstance(items, list):
            raise DataError(f"{self.path}: no list named 'annotation'")
        for index, item in enumerate(items):
            self._item(f"annotation {index}", item)

    def _item(self, where: str, item: Any) -> None:
        if not isinstance(item, dict) or not isinstance(item.get("category_id"), str):
            raise DataError(f"{self.path}: {where} has no category_id")
        words = item.get("bbox")
        if not isinstance(words, list) or len(words) != 4:
            raise DataError(f"{self.path}: {where}: bbox is {words!r}; need [x, y, width, height]")
        values = [number_of(word) if isinstance(word, str) else None for word in words]
        if None in values:
            raise DataError(f"{self.path}: {where}: bbox {words!r} holds something not a number")
        # Single precision, as the reference adds.
        x, y, width, height = np.array(values, np.float32)
        corners = (float(x), float(y), float(x + width), float(y + height))
        crowd = item.get("iscrowd")
        self.add(item["category_id"], corners, self._crowd(where, crowd))

    def _crowd(self, where: str, value: object) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        number = number_of(value) if isinstance(value, str) else None
        if number is None:
            self.found.faults.append(f"{self.path}: {where}: iscrowd is {value!r}, not 0 or 1")
        return number not in (None, 0)


class _TxtReader(_Reader):
    def read(self, data: bytes) -> None:
        words = list(_words(data.decode(errors="replace")))
        for start in range(0, len(words), 5):
            line, texts = words[start][0], [word for _, word in words[start : start + 5]]
            values = [number_of(text) for text in texts]
            if len(texts) < 5 or None in values or whole_of(texts[0]) is None:
                self.found.faults.append(
                    f"{self.path}:{line}: expected {_TXT_LINE}, got {' '.join(texts)!r}"
                )
                return
            label, *corners = (value for value in values if value is not None)
            self.add(str(int(label)), (corners[0], corners[1], corners[2], corners[3]), False)


def number_of(text: str) -> float | None:
    """The value of text that is a finite decimal number and nothing else."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if abs(value) <= _LARGEST else None


def whole_of(text: str) -> int | None:
    """The value of text that is a 32-bit whole number and nothing else."""
    if _WHOLE.fullmatch(text) is None:
        return None
    value = int(text)
    return value if -(2**31) <= value < 2**31 else None


def _words(text: str) -> Iterator[tuple[int, str]]:
    """Each word and the number of its line."""
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.split():
            yield number, word
