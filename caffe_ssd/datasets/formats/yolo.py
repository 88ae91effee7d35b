"""YOLO: a text file per picture with lines "class centre-x centre-y width height" in fractions.

Class names come from data.yaml, or from classes.txt, obj.names or the like. A longer line is a
polygon, of which the bounding box is taken (with `kpt_shape` in data.yaml: key points, which are
left). A picture without a text file has no objects: that is how this format says so.

Fractions rarely hold a whole number of pixels exactly: corners that are within 0.001 pixels of one
(in pictures beyond 1000 pixels, within a millionth of the side) are taken to be it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from caffe_ssd.data.annotation_files import MAX_BYTES, AnnotatedBox, number_of, whole_of
from caffe_ssd.datasets.dataset import NOTE, TEST, TRAIN, WARNING, Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    place_pictures,
    write_file,
    write_label_map,
    write_lines,
)
from caffe_ssd.datasets.formats.yolo_names import YoloNames, class_names, quoted
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.files import read_text

_SNAP_PX, _SNAP_SHARE = 1e-3, 1e-6
_DIGITS = 6
_OTHER_TEXTS = ("classes", "labels", "readme", "notes", "obj", "train", "val", "valid", "test")
_MOST_SNIFFED = 50
_NAMES = {TRAIN: "train", TEST: "val", "": ""}


def _recognise(folder: Folder) -> list[str]:
    """Texts beside pictures or in labels/, if the first that is not empty looks like YOLO's."""
    files = _label_files(folder)
    for name in files[:_MOST_SNIFFED]:
        try:
            text = read_text(folder.path(name), limit=MAX_BYTES)
        except CaffeError:
            continue
        if text.strip():
            words = text.strip().splitlines()[0].split()
            numbers = [number_of(word) for word in words]
            is_label = len(words) >= 5 and whole_of(words[0]) is not None and None not in numbers
            # Whole pixels in place of fractions are told when the file is read.
            return files if is_label else []
    return []


def _label_files(folder: Folder) -> list[str]:
    stems = {PurePosixPath(name).stem for name in folder.pictures}
    return [
        name
        for name in folder.ending(".txt")
        if PurePosixPath(name).stem in stems
        and (PurePosixPath(name).stem.lower() not in _OTHER_TEXTS)
    ]


def _read(reading: Reading, files: list[str]) -> None:
    names = class_names(reading.folder)
    reading.classes += names.names
    if not names.source:
        text = "there are no class names (data.yaml or classes.txt); numbers stand for them"
        reading.notes.add("no-names", WARNING, text)
    for name in files:
        picture = reading.folder.picture_beside(name)
        if picture is None:
            reading.missing(PurePosixPath(name).stem, name)
            continue
        if reading.folder.looks[picture].fault:
            entry = Entry(picture=picture, annotation=name)
        else:
            try:
                boxes = _read_boxes(reading, name, picture, names)
            except CaffeError as error:
                reading.damaged(name, error)
                continue
            entry = Entry(picture=picture, annotation=name, boxes=boxes)
        entry.split = names.splits.get(picture, "")
        reading.entries.append(entry)
    _add_backgrounds(reading, files, names)


def _add_backgrounds(reading: Reading, files: Sequence[str], names: YoloNames) -> None:
    named = {entry.picture for entry in reading.entries}
    named |= {found for name in files if (found := reading.folder.picture_beside(name))}
    left = [name for name in reading.folder.pictures if name not in named]
    for name in left:
        reading.entries.append(Entry(picture=name, annotation="", split=names.splits.get(name, "")))
    text = "{n} pictures have no label file, which in this format means no objects; is that so?"
    reading.notes.add_all("no-label-file", WARNING, text, left)


def _read_boxes(reading: Reading, name: str, picture: str, names: YoloNames) -> list[AnnotatedBox]:
    boxes = []
    size = reading.folder.looks[picture].size
    text = read_text(reading.folder.path(name), limit=MAX_BYTES)
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        values = [number_of(word) for word in words]
        label = whole_of(words[0])
        numbers = [value for value in values[1:] if value is not None]
        if len(words) < 5 or label is None or label < 0 or len(numbers) + 1 != len(words):
            raise DataError(
                f"{name}:{number}: expected 'class x y width height', got {line[:60]!r}"
            )
        if max(map(abs, numbers)) > 2:
            raise DataError(f"{name}:{number}: {line[:60]!r} holds pixels rather than fractions")
        if len(words) > 5:
            numbers = _of_long_line(reading, name, numbers, names)
        corners = (_corner(value, size[1 - i % 2]) for i, value in enumerate(_edges(numbers)))
        xmin, ymin, xmax, ymax = corners
        boxes.append(AnnotatedBox(names.name_of(label), xmin, ymin, xmax, ymax, False))
    return boxes


def _of_long_line(
    reading: Reading, name: str, numbers: list[float], names: YoloNames
) -> list[float]:
    """Centre and size of a line that holds more than a box."""
    if names.has_key_points or len(numbers) == 5:
        what = "key points" if names.has_key_points else "a sixth number, as predictions have,"
        text = f"lines with {what} beside the box; only the box is used"
        reading.notes.add("long-line", NOTE if names.has_key_points else WARNING, text, name)
        return numbers[:4]
    if len(numbers) % 2:
        raise DataError(f"{name}: a line has {len(numbers) + 1} numbers: neither box nor polygon")
    text = "polygons; their bounding boxes are used"
    reading.notes.add("polygon", NOTE, text, name)
    x, y = numbers[::2], numbers[1::2]
    return [
        (min(x) + max(x)) / 2,
        (min(y) + max(y)) / 2,
        max(x) - min(x),
        max(y) - min(y),
    ]


def _edges(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _corner(fraction: float, side: int) -> float:
    """Pixels of a fraction of a side; see the head of this file."""
    value = fraction * side
    whole = round(value)
    if abs(value - whole) <= max(_SNAP_PX, _SNAP_SHARE * side):
        return float(whole)
    return round(value, _DIGITS)


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    folder = Path(root)
    placed = place_pictures(dataset, folder, _picture_folder)
    ids = {name: label for label, name in enumerate(dataset.classes)}
    lost = 0
    for each in placed:
        height, width = each.picture.size
        lines = []
        for box in each.picture.boxes:
            xmin, ymin, xmax, ymax = box.corners_px
            numbers = (
                (xmin + xmax) / 2 / width,
                (ymin + ymax) / 2 / height,
                (xmax - xmin) / width,
                (ymax - ymin) / height,
            )
            lines.append(" ".join([str(ids[box.category]), *map(_fraction, numbers)]))
            lost += box.is_difficult
        place = PurePosixPath("labels", *PurePosixPath(each.target).parts[1:-1])
        write_lines(folder / place / f"{each.stem}.txt", lines)
    splits = dict.fromkeys(each.picture.split for each in placed)
    text = ["path: ."]
    text += [f"{_NAMES[split] or 'train'}: {_picture_folder(split)}" for split in splits]
    text += ["names:", *(f"  {label}: {quoted(name)}" for name, label in ids.items())]
    write_file(folder / "data.yaml", "\n".join(text) + "\n")
    write_label_map(dataset, folder)
    return {"difficult flags": lost} if lost else {}


def _picture_folder(split: str) -> str:
    return f"images/{_NAMES[split]}".rstrip("/")


def _fraction(value: float) -> str:
    """With all the digits that a corner needs to come back."""
    return re.sub(r"\.?0+$", "", f"{value:.15f}") or "0"


YOLO = Format(name="yolo", title="YOLO text files", recognise=_recognise, read=_read, write=_write)
