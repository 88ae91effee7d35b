"""CSV: a line per box, with a header (`filename,...,class,xmin,ymin,xmax,ymax` in any order, as
Roboflow and TensorFlow's scripts write it) or without (keras-retinanet: `path,x1,y1,x2,y2,class`).

A line whose box is empty names a picture without objects.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from caffe_ssd.data.annotation_files import AnnotatedBox, number_of
from caffe_ssd.datasets.dataset import Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    Placed,
    place_pictures,
    plain_number,
    write_file,
    write_label_map,
)
from caffe_ssd.datasets.pictures import EXTENSIONS
from caffe_ssd.datasets.splits import split_of_path, split_of_word
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.files import read_text

_COLUMNS = {
    "picture": ("filename", "file", "image", "path", "imagepath", "imagename", "imageid"),
    "class": ("class", "label", "name", "category", "classname"),
    "xmin": ("xmin", "x1", "left", "xtl"),
    "ymin": ("ymin", "y1", "top", "ytl"),
    "xmax": ("xmax", "x2", "right", "xbr"),
    "ymax": ("ymax", "y2", "bottom", "ybr"),
    "width": ("width", "imagewidth"),
    "height": ("height", "imageheight"),
    "difficult": ("difficult",),
}
_NEEDED = ("picture", "class", "xmin", "ymin", "xmax", "ymax")
_HEADERLESS = dict(zip(("picture", "xmin", "ymin", "xmax", "ymax", "class"), range(6), strict=True))
_TRUE = ("1", "true", "yes")


def _recognise(folder: Folder) -> list[str]:
    return [name for name in folder.ending(".csv") if _columns_of(folder, name)]


def _columns_of(folder: Folder, name: str) -> dict[str, int]:
    """Which column holds what; empty for another kind of table."""
    try:
        text = read_text(folder.path(name))
    except CaffeError:
        return {}
    row = next(_rows(text), (0, []))[1]
    found = _header(row)
    if all(key in found for key in _NEEDED):
        return found
    is_picture = bool(row) and PurePosixPath(row[0].replace("\\", "/")).suffix.lower() in EXTENSIONS
    numbers = [number_of(word) for word in row[1:5]]
    is_empty = not any(row[1:])
    return (
        dict(_HEADERLESS)
        if len(row) == 6 and is_picture and (None not in numbers or is_empty)
        else {}
    )


def _header(row: Sequence[str]) -> dict[str, int]:
    words = [word.strip().lower().replace("_", "").replace(" ", "") for word in row]
    return {
        key: words.index(alias)
        for key, aliases in _COLUMNS.items()
        for alias in reversed(aliases)
        if alias in words
    }


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers; ; and tabs separate, too."""
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), 1):
        words = [word.strip() for word in row]
        if any(words):
            yield number, words


def _read(reading: Reading, files: list[str]) -> None:
    for name in files:
        try:
            _read_file(reading, name)
        except (CaffeError, csv.Error) as error:
            reading.damaged(name, error)
    reading.unannotated()


def _read_file(reading: Reading, name: str) -> None:
    columns = _columns_of(reading.folder, name)
    rows = list(_rows(read_text(reading.folder.path(name))))
    if columns != _HEADERLESS:
        rows = rows[1:]
    entries: dict[str, Entry] = {}
    split = split_of_word(PurePosixPath(name).stem) or split_of_path(name)
    for number, row in rows:
        cells = {key: row[at] if at < len(row) else "" for key, at in columns.items()}
        entry = entries.get(cells["picture"])
        if entry is None:
            picture = reading.folder.picture_named(cells["picture"], name)
            if picture is None:
                reading.missing(cells["picture"], name)
                continue
            entry = Entry(picture=picture, annotation=name, size=_size(cells), split=split)
            entries[cells["picture"]] = entry
        if any(cells[key] for key in _NEEDED[1:]):
            entry.boxes.append(_box(cells, f"{name}:{number}"))
    reading.entries += entries.values()


def _size(cells: dict[str, str]) -> tuple[int, int] | None:
    height, width = (number_of(cells.get(side, "")) for side in ("height", "width"))
    return None if height is None or width is None else (int(height), int(width))


def _box(cells: dict[str, str], where: str) -> AnnotatedBox:
    numbers = [number_of(cells[key]) for key in _NEEDED[2:]]
    corners = [value for value in numbers if value is not None]
    if len(corners) != 4 or not cells["class"]:
        shown = ",".join(cells[key] for key in _NEEDED)
        raise DataError(f"{where}: {shown[:80]!r} is no picture, class and four numbers")
    if all(0 <= value <= 1 for value in corners) and any(value % 1 for value in corners):
        raise DataError(f"{where}: the box is in fractions of the picture; pixels are needed")
    xmin, ymin, xmax, ymax = corners
    is_difficult = cells.get("difficult", "").lower() in _TRUE
    return AnnotatedBox(cells["class"], xmin, ymin, xmax, ymax, is_difficult)


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    folder = Path(root)
    placed = place_pictures(dataset, folder, lambda split: split)
    for split in dict.fromkeys(each.picture.split for each in placed):
        part = [each for each in placed if each.picture.split == split]
        write_file(folder / split / "_annotations.csv", _table(part))
    write_label_map(dataset, folder)
    return {}


def _table(part: Sequence[Placed]) -> str:
    has_difficult = any(box.is_difficult for each in part for box in each.picture.boxes)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["filename", "width", "height", "class", *_NEEDED[2:]]
    writer.writerow([*header, "difficult"] if has_difficult else header)
    for each in part:
        height, width = each.picture.size
        start = [PurePosixPath(each.target).name, width, height]
        if not each.picture.boxes:
            writer.writerow([*start, *[""] * (len(header) - 3 + has_difficult)])
        for box in each.picture.boxes:
            row = [*start, box.category, *map(plain_number, box.corners_px)]
            writer.writerow([*row, int(box.is_difficult)] if has_difficult else row)
    return text.getvalue()


CSV = Format(name="csv", title="CSV table", recognise=_recognise, read=_read, write=_write)
