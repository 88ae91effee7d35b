"""CVAT XML 1.1 for images: one annotations.xml, an <image> with its shapes for each picture.

Of polygons, polylines, masks and turned boxes the bounding box is taken. An attribute `difficult`
is read and written; `occluded` has no counterpart and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from caffe_ssd.data.annotation_files import AnnotatedBox, number_of
from caffe_ssd.datasets.dataset import NOTE, TEST, TRAIN, Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    place_pictures,
    plain_number,
    write_label_map,
    write_xml,
)
from caffe_ssd.datasets.formats.voc import xml_files
from caffe_ssd.datasets.splits import split_of_path, split_of_word
from caffe_ssd.documents import parse_xml
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.files import read_bytes

_EDGES = ("xtl", "ytl", "xbr", "ybr")
_TRUE = ("1", "true")
_SUBSETS = {TRAIN: "Train", TEST: "Test"}


def _recognise(folder: Folder) -> list[str]:
    return xml_files(folder, "annotations")


def _read(reading: Reading, files: list[str]) -> None:
    for name in files:
        try:
            root = parse_xml(read_bytes(reading.folder.path(name)), name)
        except CaffeError as error:
            reading.damaged(name, error)
            continue
        if root.find("track") is not None:
            text = "it is CVAT's form for video; export the task as 'CVAT for images 1.1'"
            reading.damaged(name, text)
        reading.classes += [
            (label.text or "").strip() for label in root.iterfind("meta//labels/label/name")
        ]
        for image in root.iterfind("image"):
            _read_image(reading, name, image)
    reading.unannotated()


def _read_image(reading: Reading, name: str, image: ElementTree.Element) -> None:
    reference = image.get("name", "")
    picture = reading.folder.picture_named(reference, name)
    if picture is None:
        reading.missing(reference, name)
        return
    boxes = []
    for node in image:
        try:
            box = _box(node)
        except DataError as error:
            reading.damaged(name, f"{reference}: {error}")
            return
        if box is None:
            continue
        boxes.append(box)
        if node.tag != "box" or node.get("rotation", "0") not in ("0", "0.0", "0.00"):
            text = "polygons and turned boxes; their bounding boxes are used"
            reading.notes.add("polygon", NOTE, text, picture)
        if node.get("occluded") in _TRUE:
            text = "'occluded' flags, which have no counterpart and are not used"
            reading.notes.add("occluded", NOTE, text, picture)
    try:
        size = int(image.get("height", "0")), int(image.get("width", "0"))
    except ValueError:
        size = None
    split = split_of_word(image.get("subset", "")) or split_of_path(name)
    reading.entries.append(
        Entry(picture=picture, annotation=name, boxes=boxes, size=size, split=split)
    )


def _box(node: ElementTree.Element) -> AnnotatedBox | None:
    """The box of a shape; None for points, tags and the like."""
    label = node.get("label", "").strip()
    if node.tag == "box":
        corners = _turned([_number(node, edge) for edge in _EDGES], node)
    elif node.tag in ("polygon", "polyline"):
        corners = bounding_box(_points(node))
    elif node.tag == "mask":
        left, top, width, height = (_number(node, e) for e in ("left", "top", "width", "height"))
        corners = (left, top, left + width, top + height)
    elif node.tag == "ellipse":
        x, y, rx, ry = (_number(node, edge) for edge in ("cx", "cy", "rx", "ry"))
        corners = (x - rx, y - ry, x + rx, y + ry)
    else:
        return None
    if not label:
        raise DataError(f"a <{node.tag}> has no label")
    flags = {each.get("name"): (each.text or "").strip().lower() for each in node.iter("attribute")}
    return AnnotatedBox(label, *corners, flags.get("difficult") in _TRUE)


def bounding_box(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """(xmin, ymin, xmax, ymax) of points.

    Raises:
        DataError: there are none.
    """
    if not points:
        raise DataError("a shape has no points")
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x), max(y)


def _turned(edges: Sequence[float], node: ElementTree.Element) -> tuple[float, float, float, float]:
    """The bounding box of a box that is turned about its centre, by degrees."""
    left, top, right, bottom = edges
    angle = math.radians(_number(node, "rotation") if node.get("rotation") else 0)
    if angle == 0:
        return left, top, right, bottom
    x, y = (left + right) / 2, (top + bottom) / 2
    half = (abs(right - left) / 2, abs(bottom - top) / 2)
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    dx, dy = half[0] * cosine + half[1] * sine, half[0] * sine + half[1] * cosine
    return x - dx, y - dy, x + dx, y + dy


def _points(node: ElementTree.Element) -> list[tuple[float, float]]:
    points = []
    for pair in node.get("points", "").split(";"):
        numbers = [number_of(word) for word in pair.split(",")]
        if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
            raise DataError(f"points of a <{node.tag}>: {pair[:40]!r} is no pair of numbers")
        points.append((numbers[0], numbers[1]))
    return points


def _number(node: ElementTree.Element, name: str) -> float:
    value = number_of(node.get(name, ""))
    if value is None:
        raise DataError(f"{name} of a <{node.tag}> is {node.get(name, '')[:40]!r}, not a number")
    return value


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    folder = Path(root)
    document = ElementTree.Element("annotations")
    ElementTree.SubElement(document, "version").text = "1.1"
    labels = ElementTree.SubElement(ElementTree.SubElement(document, "meta"), "task")
    labels = ElementTree.SubElement(labels, "labels")
    for name in dataset.classes:
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    for number, each in enumerate(place_pictures(dataset, folder, lambda split: "images")):
        height, width = each.picture.size
        image = ElementTree.SubElement(
            document,
            "image",
            {
                "id": str(number),
                "name": PurePosixPath(each.target).name,
                "width": str(width),
                "height": str(height),
            },
        )
        if each.picture.split:
            image.set("subset", _SUBSETS[each.picture.split])
        for box in each.picture.boxes:
            image.append(_shape(box))
    write_xml(folder / "annotations.xml", document)
    write_label_map(dataset, folder)
    return {}


def _shape(box: AnnotatedBox) -> ElementTree.Element:
    edges = dict(zip(_EDGES, map(plain_number, box.corners_px), strict=True))
    node = ElementTree.Element("box", {"label": box.category, "occluded": "0", **edges})
    if box.is_difficult:
        ElementTree.SubElement(node, "attribute", {"name": "difficult"}).text = "true"
    return node


CVAT = Format(
    name="cvat", title="CVAT XML for images", recognise=_recognise, read=_read, write=_write
)
