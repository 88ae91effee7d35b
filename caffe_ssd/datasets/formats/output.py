"""What the writers of formats share: where pictures go, numbers, label maps, text files."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from caffe_ssd.datasets.dataset import BACKGROUND, AnnotatedPicture, Dataset
from caffe_ssd.datasets.pictures import UPRIGHT, upright_jpeg
from caffe_ssd.errors import FileError
from caffe_ssd.proto.caffe_pb2 import LabelMap
from caffe_ssd.proto.text import write_text


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A picture and where its file went.

    Args:
        picture: what it was.
        target: the new file, relative to the new folder, with slashes; without blanks.
        stem: its name without folders and suffix, unlike that of any other.
    """

    picture: AnnotatedPicture
    target: str
    stem: str


def place_pictures(
    dataset: Dataset,
    root: Path,
    folder_of: Callable[[str], str],
    *,
    link: bool = False,
    plain: bool = False,
) -> list[Placed]:
    """Copy the pictures of a data set, unchanged but for what EXIF turns: that is stored turned.

    Args:
        dataset: the pictures.
        root: an existing folder.
        folder_of: split -> folder below the root.
        link: make symbolic links rather than copies, where the system can.
        plain: also store anew what data layers would not see as people do: gray pictures, more
            than 8 bits, transparency.

    Raises:
        CaffeError: a file cannot be read or written.
    """
    placed = []
    stems = _stems(dataset.pictures)
    for picture, stem in zip(dataset.pictures, stems, strict=True):
        folder = folder_of(picture.split)
        (root / folder).mkdir(parents=True, exist_ok=True)
        changes = picture.file.orientation != UPRIGHT or (plain and not picture.file.is_plain)
        suffix = ".jpg" if changes else PurePosixPath(picture.name).suffix.lower()
        name = f"{stem}{suffix}"
        target = f"{folder}/{name}" if folder else name
        _store(picture, root / target, changes=changes, link=link)
        placed.append(Placed(picture=picture, target=target, stem=stem))
    return placed


def _store(picture: AnnotatedPicture, target: Path, *, changes: bool, link: bool) -> None:
    try:
        if changes:
            target.write_bytes(upright_jpeg(picture.path))
            return
        if link:
            try:
                target.symlink_to(os.path.abspath(picture.path))
                return
            except OSError:  # not every system lets everybody
                pass
        shutil.copyfile(picture.path, target)
    except OSError as error:
        raise FileError(f"Could not write {target}: {error.strerror}") from error


def _stems(pictures: Iterable[AnnotatedPicture]) -> list[str]:
    """A name for each: its own, with its folders where that stands twice; without blanks."""
    paths = [PurePosixPath(picture.name) for picture in pictures]
    short = ["_".join(path.stem.split()) for path in paths]
    counts = Counter(name.lower() for name in short)
    names, used = [], Counter[str]()
    for path, name in zip(paths, short, strict=True):
        if counts[name.lower()] > 1:
            name = "_".join("_".join(path.with_suffix("").parts).split())
        used[name.lower()] += 1
        again = used[name.lower()]
        while again > 1 and f"{name}_{again}".lower() in used:
            again += 1
        if again > 1:
            name = f"{name}_{again}"
            used[name.lower()] += 1
        names.append(name)
    return names


def plain_number(value: float) -> str:
    """A number as short as it can be without loss: 3 for 3.0."""
    return str(int(value)) if value == int(value) else repr(float(value))


def json_number(value: float) -> int | float:
    """The same for JSON."""
    return int(value) if value == int(value) else float(value)


def write_label_map(dataset: Dataset, root: Path) -> None:
    """`labelmap.prototxt`: the background, then the classes in their order."""
    labels = LabelMap()
    labels.item.add(name=BACKGROUND, label=0, display_name="background")
    for label, name in enumerate(dataset.classes, 1):
        labels.item.add(name=name, label=label, display_name=name)
    write_text(root / "labelmap.prototxt", labels)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """A text file in UTF-8."""
    write_file(path, "".join(f"{line}\n" for line in lines))


def write_json(path: Path, content: Any) -> None:
    """A JSON file in UTF-8."""
    write_file(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_xml(path: Path, root: ElementTree.Element) -> None:
    """An indented XML file in UTF-8."""
    ElementTree.indent(root)
    write_file(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def write_file(path: Path, text: str) -> None:
    """Write a file of a folder that nobody uses yet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise FileError(f"Could not write {path}: {error.strerror}") from error
