"""Reads a folder of pictures and annotations in any format that is known: `read_folder`.

files -> format recognised -> entries (a picture's name, boxes) -> pictures of the data set
         formats/            formats/                              here

What cannot be used (an unreadable picture, a damaged annotation file, a picture that is named but
missing) is left out and becomes a finding; only a folder of which nothing can be told is refused.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import (
    ERROR,
    NOTE,
    WARNING,
    AnnotatedPicture,
    Dataset,
    Notes,
)
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats import FORMATS, Format
from caffe_ssd.datasets.formats.entries import Entry, Reading
from caffe_ssd.datasets.pictures import PictureFile, turned
from caffe_ssd.datasets.splits import settle_splits
from caffe_ssd.errors import CaffeError, DataError, UsageError, plural
from caffe_ssd.proto.label_map import read_label_map

_SHOWN = 3


def read_folder(root: str | os.PathLike[str], format: str | None = None) -> Dataset:
    """Read an annotated folder.

    Args:
        root: the folder.
        format: a key of `FORMATS`; None recognises it.

    Raises:
        UsageError: there is no such format.
        FileError: the folder cannot be listed.
        DataError: no format, or more than one, is recognised; or not one picture can be used.
    """
    folder = Folder(root)
    chosen, files = _recognised(folder, format)
    reading = Reading(folder=folder)
    chosen.read(reading, files)
    parts = _Parts(folder, reading)
    pictures = parts.pictures()
    if not pictures:
        raise DataError(_nothing_left(folder, chosen, files, reading.notes))
    pictures = settle_splits(pictures, folder, reading.notes)
    return Dataset(
        root=os.fspath(root),
        format=chosen.name,
        reason=f"{chosen.title}: {_some(files)}",
        pictures=pictures,
        classes=_classes(pictures, reading),
        findings=reading.notes.findings(),
    )


def _recognised(folder: Folder, name: str | None) -> tuple[Format, list[str]]:
    if name is not None:
        if name not in FORMATS:
            raise UsageError(f"format is {name!r}; allowed: {', '.join(FORMATS)}")
        files = FORMATS[name].recognise(folder)
        if not files:
            raise DataError(f"{folder.root} holds no annotations in the format {name}")
        return FORMATS[name], files
    found = {each: files for each in FORMATS.values() if (files := each.recognise(folder))}
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        listed = "; ".join(f"{each.name} ({_some(files)})" for each, files in found.items())
        raise DataError(
            f"{folder.root} holds annotations in more than one format: {listed}. Say which one "
            "counts (-format), or move the others away"
        )
    kinds = ", ".join(each.title for each in FORMATS.values())
    raise DataError(
        f"{folder.root} holds {plural(len(folder.pictures), 'picture')} and "
        f"{plural(len(folder.names), 'file')} in all ({_some(folder.names)}), "
        f"but no annotations in a known format: {kinds}"
    )


@dataclass
class _Parts:
    """Joins entries to their picture files."""

    folder: Folder
    reading: Reading
    _by_picture: dict[str, Entry] = field(default_factory=dict)

    def pictures(self) -> list[AnnotatedPicture]:
        for entry in self.reading.entries:
            first = self._by_picture.get(entry.picture)
            if first is None:
                self._by_picture[entry.picture] = entry
                continue
            self.reading.notes.add(
                "annotated-twice",
                WARNING,
                "pictures with more than one annotation file or entry; their boxes are put "
                "together",
                entry.annotation,
            )
            first.boxes.extend(entry.boxes)
        return [
            picture
            for name in sorted(self._by_picture)
            if (picture := self._picture(self._by_picture[name])) is not None
        ]

    def _picture(self, entry: Entry) -> AnnotatedPicture | None:
        file = self.folder.looks[entry.picture]
        notes = self.reading.notes
        if file.fault:
            text = "pictures that cannot be read; they are left out"
            notes.add("unreadable", ERROR, text, f"{entry.picture}: {file.fault}")
            return None
        return AnnotatedPicture(
            path=self.folder.path(entry.picture),
            name=entry.picture,
            file=file,
            boxes=self._on_picture(entry, file),
            split=entry.split,
            annotation_path=self.folder.path(entry.annotation) if entry.annotation else "",
        )

    def _on_picture(self, entry: Entry, file: PictureFile) -> list[AnnotatedBox]:
        """The boxes in pixels of the picture as people see it."""
        height, width = file.size
        stored = (width, height) if file.orientation > 4 else file.size
        stated = entry.size
        if stated is None or min(stated) <= 0 or stated == file.size:
            if file.orientation != 1 and entry.boxes:
                self._note_rotation(entry, is_known=stated == file.size and width != height)
            return entry.boxes
        if stated == stored:
            self.reading.notes.add(
                "rotated",
                WARNING,
                "pictures that their EXIF tag turns, annotated as they are stored; their boxes are "
                "turned with them",
                entry.picture,
            )
            return [turned(box, stored, file.orientation) for box in entry.boxes]
        self.reading.notes.add(
            "other-size",
            WARNING,
            "annotations that state another size than their picture has; their boxes are scaled "
            "to the picture",
            entry.picture,
        )
        factor_y, factor_x = height / stated[0], width / stated[1]
        return [_scaled(box, factor_x, factor_y) for box in entry.boxes]

    def _note_rotation(self, entry: Entry, *, is_known: bool) -> None:
        if is_known:
            text = "pictures that their EXIF tag turns; their boxes fit the turned picture"
            self.reading.notes.add("rotated", NOTE, text, entry.picture)
            return
        self.reading.notes.add(
            "rotated",
            WARNING,
            "pictures that their EXIF tag turns; the annotations do not tell whether their boxes "
            "are those of the turned picture, which is assumed: look at them",
            entry.picture,
        )


def _scaled(box: AnnotatedBox, x: float, y: float) -> AnnotatedBox:
    xmin, ymin, xmax, ymax = box.corners_px
    return AnnotatedBox(box.category, xmin * x, ymin * y, xmax * x, ymax * y, box.is_difficult)


def _classes(pictures: Sequence[AnnotatedPicture], reading: Reading) -> list[str]:
    """Declared classes in their order, then others by name; a label map in the folder decides."""
    found = {box.category for picture in pictures for box in picture.boxes}
    declared = list(dict.fromkeys(reading.classes))
    mapped = _mapped_classes(reading)
    if found and found <= set(mapped):
        return mapped
    unused = [name for name in declared if name not in found]
    if unused:
        reading.notes.add(
            "unused-class",
            NOTE,
            f"classes that are declared but have no box, left out: {', '.join(unused)}",
        )
    kept = [name for name in declared if name in found]
    return kept + sorted(found - set(kept))


def _mapped_classes(reading: Reading) -> list[str]:
    """The classes of the one label map that lies in the folder, in the order of their labels."""
    maps = [
        name
        for name in reading.folder.ending(".prototxt")
        if PurePosixPath(name).name.startswith("labelmap")
    ]
    if len(maps) != 1:
        return []
    try:
        names = read_label_map(reading.folder.path(maps[0])).label_to_name
    except CaffeError as error:
        reading.notes.add(
            "label-map", WARNING, f"a label map that cannot be read: {error}", maps[0]
        )
        return []
    if sorted(names) != list(range(len(names))):
        text = "a label map whose labels are not 0, 1, 2, ...; it is not used"
        reading.notes.add("label-map", WARNING, text, maps[0])
        return []
    return [names[label] for label in range(1, len(names))]


def _nothing_left(folder: Folder, chosen: Format, files: Sequence[str], notes: Notes) -> str:
    first = next(iter(notes.findings()), None)
    why = "" if first is None else f": {first.text} ({_some(first.where)})"
    return (
        f"{folder.root}: {chosen.title} was recognised ({_some(files)}), but not one annotated "
        f"picture can be used{why}"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ... {len(names)} files" if len(names) > _SHOWN else shown
