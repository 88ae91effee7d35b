"""COCO JSON: one file per split, `annotations/instances_*.json` or `SPLIT/_annotations.coco.json`.

A box is [x, y, width, height] in pixels from 0. A crowd (`iscrowd`) counts as difficult, as the
converter of this project has it.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import ERROR, TEST, TRAIN, Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.documents import is_number, json_documents
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    Placed,
    json_number,
    place_pictures,
    write_json,
    write_label_map,
)
from caffe_ssd.datasets.splits import split_of_path, split_of_word

_PARTS = ("images", "annotations", "categories")
_DIGITS = 9
"""x + width is rounded to so many decimals, so that what was xmax comes back."""
_NAMES = {TRAIN: "train", TEST: "test", "": "default"}


def is_coco(document: Any) -> bool:
    """Whether a JSON document holds a whole data set."""
    return isinstance(document, dict) and all(
        isinstance(document.get(part), list) for part in _PARTS
    )


def _recognise(folder: Folder) -> list[str]:
    found = [name for name, document in json_documents(folder) if is_coco(document)]
    # COCO's own folder has files of key points, too, which hold the same people again.
    instances = [name for name in found if PurePosixPath(name).name.startswith("instances_")]
    return instances if instances else found


def _read(reading: Reading, files: list[str]) -> None:
    wanted = set(files)
    for name, document in json_documents(reading.folder, wanted):
        _File(reading, name, document).read()
    reading.unannotated()


class _File:
    """Reads one file."""

    def __init__(self, reading: Reading, name: str, document: dict[str, Any]) -> None:
        self.reading = reading
        self.name = name
        self.document = document
        path = PurePosixPath(name)
        self.split = split_of_word(path.stem) or split_of_path(name)
        # A picture of this name in the folder `val2017` goes with instances_val2017.json.
        self.near = str(path.parent / path.stem.rpartition("_")[2] / path.name)

    def read(self) -> None:
        names = self._classes()
        boxes = self._boxes(names)
        for image in self.document["images"]:
            if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
                self.reading.damaged(self.name, "an image has no file_name")
                continue
            picture = self.reading.folder.picture_named(image["file_name"], self.near)
            if picture is None:
                self.reading.missing(image["file_name"], self.name)
                continue
            self.reading.entries.append(
                Entry(
                    picture=picture,
                    annotation=self.name,
                    boxes=boxes.pop(str(image.get("id")), []),
                    size=_size(image),
                    split=self.split,
                )
            )
        known = {
            str(image.get("id")) for image in self.document["images"] if isinstance(image, dict)
        }
        if strays := [key for key in boxes if key not in known]:
            text = "annotations of images that the file does not list; they are left out"
            self.reading.notes.add(
                "damaged-annotation", ERROR, text, f"{self.name} ({len(strays)})"
            )

    def _classes(self) -> dict[str, str]:
        """Class names by category_id; the classes of the data set are in their order."""
        names = {}
        for category in self.document["categories"]:
            if isinstance(category, dict) and isinstance(category.get("name"), str):
                names[str(category.get("id"))] = category["name"].strip()
        order = sorted(names, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
        self.reading.classes += [names[key] for key in order]
        return names

    def _boxes(self, names: dict[str, str]) -> dict[str, list[AnnotatedBox]]:
        found: dict[str, list[AnnotatedBox]] = defaultdict(list)
        for index, item in enumerate(self.document["annotations"]):
            box = _box(item, names)
            if isinstance(box, str):
                self.reading.damaged(self.name, f"annotation {index}: {box}")
            else:
                found[str(item.get("image_id"))].append(box)
        return found


def _box(item: Any, names: dict[str, str]) -> AnnotatedBox | str:
    """The box of an annotation, or why it has none."""
    if not isinstance(item, dict):
        return "it is no object"
    name = names.get(str(item.get("category_id")))
    if name is None:
        return f"category_id {item.get('category_id')!r} is no category of the file"
    bbox = item.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        return f"bbox is {str(bbox)[:60]}; need [x, y, width, height]"
    x, y, width, height = map(float, bbox)
    right, bottom = round(x + width, _DIGITS), round(y + height, _DIGITS)
    return AnnotatedBox(name, x, y, right, bottom, bool(item.get("iscrowd")))


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return None


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    folder = Path(root)
    placed = place_pictures(dataset, folder, lambda split: f"images/{_NAMES[split]}")
    for split in dict.fromkeys(each.picture.split for each in placed):
        part = [each for each in placed if each.picture.split == split]
        write_json(
            folder / "annotations" / f"instances_{_NAMES[split]}.json", _document(dataset, part)
        )
    write_label_map(dataset, folder)
    return {}


def _document(dataset: Dataset, part: list[Placed]) -> dict[str, Any]:
    ids = {name: label for label, name in enumerate(dataset.classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, each in enumerate(part, 1):
        height, width = each.picture.size
        name = PurePosixPath(each.target).name
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box in each.picture.boxes:
            xmin, ymin, xmax, ymax = box.corners_px
            sides = (xmax - xmin, ymax - ymin)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[box.category],
                    "bbox": [json_number(value) for value in (xmin, ymin, *sides)],
                    "area": json_number(sides[0] * sides[1]),
                    "iscrowd": int(box.is_difficult),
                }
            )
    categories = [{"id": label, "name": name} for name, label in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


COCO = Format(name="coco", title="COCO JSON", recognise=_recognise, read=_read, write=_write)
