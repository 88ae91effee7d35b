"""LabelMe JSON: a file beside each picture with its shapes.

Rectangles, and the bounding boxes of polygons, circles and masks; points and lines are no objects
and are counted. A flag `difficult` of a shape is read and written.
"""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from typing import Any

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import NOTE, WARNING, Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.cvat import bounding_box
from caffe_ssd.datasets.formats.documents import is_number, json_documents
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    json_number,
    place_pictures,
    write_json,
    write_label_map,
    write_lines,
)
from caffe_ssd.errors import DataError

_RECTANGLE = "rectangle"
_AREAS = (_RECTANGLE, "polygon", "mask", "circle")


def _is_labelme(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("shapes"), list)
        and "imagePath" in document
    )


def _recognise(folder: Folder) -> list[str]:
    return [name for name, document in json_documents(folder) if _is_labelme(document)]


def _read(reading: Reading, files: list[str]) -> None:
    good = set(files)
    for name, document in json_documents(reading.folder):
        if name in good:
            _read_file(reading, name, document)
        elif document is None and reading.folder.picture_beside(name) is not None:
            reading.damaged(name, "it is no readable JSON file")
    reading.unannotated()


def _read_file(reading: Reading, name: str, document: dict[str, Any]) -> None:
    reference = document["imagePath"] if isinstance(document["imagePath"], str) else ""
    picture = reading.folder.picture_named(reference, name)
    if picture is None:
        picture = reading.folder.picture_beside(name)
    if picture is None:
        reading.missing(reference, name)
        if document.get("imageData"):
            text = "pictures that are only inside their JSON file; export them from LabelMe"
            reading.notes.add("embedded-picture", WARNING, text, name)
        return
    boxes = []
    for number, shape in enumerate(document["shapes"]):
        try:
            box = _box(shape)
        except DataError as error:
            reading.damaged(name, f"shape {number}: {error}")
            return
        if box is None:
            text = "points and lines, which are no objects; they are left out"
            reading.notes.add("no-box", NOTE, text, name)
            continue
        if shape.get("shape_type", "polygon") != _RECTANGLE:
            text = "polygons; their bounding boxes are used"
            reading.notes.add("polygon", NOTE, text, name)
        boxes.append(box)
    height, width = document.get("imageHeight"), document.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    reading.entries.append(
        Entry(
            picture=picture,
            annotation=name,
            boxes=boxes,
            size=size,
        )
    )


def _box(shape: Any) -> AnnotatedBox | None:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise DataError("it has no label")
    kind = shape.get("shape_type", "polygon")
    if kind not in _AREAS:
        return None
    points = shape.get("points")
    if not isinstance(points, list) or not all(
        isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points
    ):
        raise DataError("its points are no pairs of numbers")
    corners = [(float(x), float(y)) for x, y in points]
    if kind == "circle" and len(corners) == 2:  # the centre and a point of the line
        (x, y), edge = corners
        radius = math.dist((x, y), edge)
        corners = [(x - radius, y - radius), (x + radius, y + radius)]
    flags = shape.get("flags")
    is_difficult = isinstance(flags, dict) and bool(flags.get("difficult"))
    # A rectangle's two corners may be any: LabelMe keeps them as they were drawn.
    return AnnotatedBox(shape["label"].strip(), *bounding_box(corners), is_difficult)


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    folder = Path(root)
    for each in place_pictures(dataset, folder, lambda split: split):
        height, width = each.picture.size
        target = PurePosixPath(each.target)
        document: dict[str, Any] = {
            "version": "5.0.0",
            "flags": {},
            "shapes": [_shape(box) for box in each.picture.boxes],
            "imagePath": target.name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_json(folder / target.parent / f"{each.stem}.json", document)
    write_lines(folder / "labels.txt", ["__ignore__", "_background_", *dataset.classes])
    write_label_map(dataset, folder)
    return {}


def _shape(box: AnnotatedBox) -> dict[str, Any]:
    xmin, ymin, xmax, ymax = map(json_number, box.corners_px)
    return {
        "label": box.category,
        "points": [[xmin, ymin], [xmax, ymax]],
        "group_id": None,
        "shape_type": _RECTANGLE,
        "flags": {"difficult": True} if box.is_difficult else {},
    }


LABELME = Format(
    name="labelme", title="LabelMe JSON", recognise=_recognise, read=_read, write=_write
)
