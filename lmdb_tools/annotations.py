"""Readers of annotation files: VOC XML, per-image COCO JSON, plain text.

Spec: ssd-data.md section 2.
Quirk: pixel coordinates are divided by the image size as they are, 1-based VOC values too.
Quirk: the size the file states wins over the real one, even when they differ.
Quirk: boxes outside the image, or with edges swapped, are stored as they are.
Quirk: in XML a coordinate that is no whole number is stored as 0, and a difficult flag that
follows its box is lost. `repair=True` reads both as they were meant.
Quirk (not kept): an XML object without a box is skipped; the reference stores an empty box.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import DataError

_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class Box:
    """One object: its label, its edges (float32, normalised, may leave [0, 1]), its flag."""

    label: int
    corners: NDArray[np.float32]
    difficult: bool


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What one annotation file holds.

    Args:
        boxes: in file order.
        warnings: sentences for the log, each naming the file.
        lost_flags: difficult flags that followed their box and were therefore not used.
    """

    boxes: list[Box] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    lost_flags: int = 0


def read_annotations(
    path: str | os.PathLike[str],
    *,
    label_type: str,
    image_size: tuple[int, int],
    name_to_label: Mapping[str, int],
    repair: bool = False,
) -> Annotations | None:
    """Read one annotation file.

    Args:
        path: the file; one that does not exist stands for an image without objects.
        label_type: xml, json or txt.
        image_size: (height, width) of the original image, in pixels.
        name_to_label: the label map; unused by txt.
        repair: xml only: read fractional coordinates, and a difficult flag behind its box.

    Returns:
        The annotations; None if a txt file cannot be opened (the image is then skipped).

    Raises:
        DataError: the file is damaged, states a size of 0, or names an unknown class.
    """
    reader = _Reader(os.fspath(path), image_size, name_to_label)
    if not os.path.exists(path):
        return Annotations()
    if label_type == "txt":
        return reader.txt()
    if label_type == "xml":
        return reader.xml(repair)
    if label_type == "json":
        return reader.json()
    raise DataError(f"label_type is {label_type!r}; allowed: xml, json, txt")


class _Reader:
    """Reads one file; collects warnings on the way."""

    def __init__(
        self, path: str, image_size: tuple[int, int], name_to_label: Mapping[str, int]
    ) -> None:
        self.path = path
        self.image_size = image_size
        self.name_to_label = name_to_label
        self.warnings: list[str] = []

    def xml(self, repair: bool) -> Annotations:
        root = self._xml_root()
        size = self._size(root.findtext("size/height"), root.findtext("size/width"))
        boxes: list[Box] = []
        lost = 0
        for node in root.iterfind("object"):
            found, late = self._xml_object(node, size, repair)
            boxes += found
            lost += late
        return Annotations(boxes=boxes, warnings=self.warnings, lost_flags=lost)

    def json(self) -> Annotations:
        root = self._json_root()
        image = root.get("image")
        image = image if isinstance(image, dict) else {}
        size = self._size(image.get("height"), image.get("width"))
        items = root.get("annotation")
        if not isinstance(items, list):
            raise DataError(f"{self.path}: no list named 'annotation'")
        boxes = [self._json_box(i, item, size) for i, item in enumerate(items)]
        return Annotations(boxes=boxes, warnings=self.warnings)

    def txt(self) -> Annotations | None:
        try:
            words = Path(self.path).read_text(errors="replace").split()
        except OSError:
            return None
        height, width = self._checked(*self.image_size)
        boxes = []
        for start in range(0, len(words) - 4, 5):
            label, *corners = words[start : start + 5]
            if _whole(label) is None or not all(_NUMBER.fullmatch(word) for word in corners):
                break
            values = np.array([float(word) for word in corners], np.float32)
            boxes.append(self._box(int(label), values, (height, width), False, f"label {label}"))
        return Annotations(boxes=boxes, warnings=self.warnings)

    def _xml_root(self) -> ElementTree.Element:
        try:
            root = ElementTree.parse(self.path).getroot()
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise DataError(f"{self.path}: not a readable XML file: {error}") from error
        if root.tag != "annotation":
            raise DataError(f"{self.path}: the root element is <{root.tag}>, not <annotation>")
        return root

    def _xml_object(
        self, node: ElementTree.Element, size: tuple[int, int], repair: bool
    ) -> tuple[list[Box], int]:
        """The boxes of one <object> (normally one) and how many difficult flags came too late."""
        found: list[Box] = []
        name: str | None = None
        label, pending, difficult, lost = 0, False, False, 0
        for child in node:
            text = child.text if child.text is not None else ""
            if child.tag == "name":
                self._warn_boxless(name, pending)
                name, label, pending = text, self._label(text), True
            elif child.tag == "difficult":
                difficult = text == "1"
                if difficult and found and not pending and not found[-1].difficult:
                    lost += not repair
                    found[-1] = replace(found[-1], difficult=repair)
            elif child.tag == "bndbox":
                if name is None:
                    raise DataError(f"{self.path}: an <object> has its <bndbox> before its <name>")
                corners = np.array([self._coordinate(child, c, repair) for c in _CORNERS])
                box = self._box(label, corners.astype(np.float32), size, difficult, repr(name))
                if not pending:  # a second box of the same object takes the place of the first
                    found.pop()
                found.append(box)
                pending = False
        self._warn_boxless(name, pending)
        return found, lost

    def _warn_boxless(self, name: str | None, pending: bool) -> None:
        if pending:
            self.warnings.append(f"{self.path} object {name!r} has no <bndbox>; skipped.")

    def _coordinate(self, node: ElementTree.Element, name: str, repair: bool) -> float:
        text = node.findtext(name)
        if text is None:
            self.warnings.append(f"{self.path} <{name}> is missing; 0 is used.")
            return 0
        whole = _whole(text)
        if whole is not None:
            return whole
        if repair and _NUMBER.fullmatch(text):
            return float(text)
        hint = "; --repair_xml reads it" if _NUMBER.fullmatch(text) else ""
        message = f"{self.path} <{name}> {text!r} is not a whole number; 0 is used{hint}."
        self.warnings.append(message)
        return 0

    def _json_root(self) -> dict[str, object]:
        try:
            # Numbers stay text: the category is looked up as it is written, 18 as "18".
            text = Path(self.path).read_bytes()
            root = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: not a readable JSON file: {error}") from error
        if not isinstance(root, dict):
            raise DataError(f"{self.path}: the JSON root is no object with 'image', 'annotation'")
        return root

    def _json_box(self, index: int, item: object, size: tuple[int, int]) -> Box:
        where = f"annotation {index}"
        if not isinstance(item, dict) or not isinstance(item.get("category_id"), str):
            raise DataError(f"{self.path}: {where} has no category_id")
        label = self._label(item["category_id"])
        words = item.get("bbox")
        if not isinstance(words, list) or len(words) != 4:
            raise DataError(f"{self.path}: {where}: bbox is {words!r}; need [x, y, width, height]")
        if not all(isinstance(word, str) and _NUMBER.fullmatch(word) for word in words):
            raise DataError(f"{self.path}: {where}: bbox {words!r} holds something not a number")
        x, y, w, h = np.array([float(word) for word in words], np.float32)
        crowd = item.get("iscrowd")
        difficult = isinstance(crowd, str) and _whole(crowd) not in (None, 0)
        corners = np.array([x, y, x + w, y + h])
        return self._box(label, corners, size, difficult, f"category {item['category_id']}")

    def _size(self, height: object, width: object) -> tuple[int, int]:
        """The size boxes are divided by: the file's own if it states one, else the image's."""
        stated = [_whole(v) if isinstance(v, str) else None for v in (height, width)]
        real = f"{self.image_size[0]}x{self.image_size[1]} (height x width)"
        if stated[0] is None or stated[1] is None:
            self.warnings.append(f"{self.path} states no size; the image's is used: {real}.")
            return self._checked(*self.image_size)
        if (stated[0], stated[1]) != self.image_size:
            mine = f"{stated[0]}x{stated[1]}"
            self.warnings.append(f"{self.path} states the size {mine}, the image has {real}.")
        return self._checked(stated[0], stated[1])

    def _checked(self, height: int, width: int) -> tuple[int, int]:
        if height == 0 or width == 0:
            raise DataError(f"{self.path}: the size is {height}x{width} (height x width)")
        return height, width

    def _label(self, name: str) -> int:
        if name in self.name_to_label:
            return self.name_to_label[name]
        known = list(self.name_to_label)
        close = get_close_matches(name, known, n=2)
        if close:
            hint = f"did you mean {' or '.join(repr(c) for c in close)}?"
        else:
            shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
            hint = f"the label map has: {shown}"
        raise DataError(f"{self.path}: class {name!r} is not in the label map; {hint}")

    def _box(
        self,
        label: int,
        corners_px: NDArray[np.float32],
        size: tuple[int, int],
        difficult: bool,
        what: str,
    ) -> Box:
        height, width = size
        limits = np.array([width, height, width, height], np.float32)
        for side, value, limit in zip(_CORNERS, corners_px, limits, strict=True):
            if value > limit or value < 0:
                self.warnings.append(
                    f"{self.path} bounding box exceeds image boundary: "
                    f"{side} {value:g} of {what} is outside 0..{limit:g}."
                )
        if corners_px[0] > corners_px[2] or corners_px[1] > corners_px[3]:
            shown = ", ".join(f"{v:g}" for v in corners_px)
            self.warnings.append(f"{self.path} bounding box of {what} has swapped edges: {shown}.")
        return Box(label=label, corners=corners_px / limits, difficult=difficult)


def _whole(text: str) -> int | None:
    """The value of text that is a 32-bit whole number and nothing else."""
    if _WHOLE.fullmatch(text) is None:
        return None
    value = int(text)
    return value if -(2**31) <= value < 2**31 else None
