"""Where pictures come from: files, folders, globs, lists, videos, cameras and arrays.

What a user names becomes items, one per picture file, video, camera or array, in order. Folders
that hold results of `caffe detect` carry a mark and are passed over, so that nothing is found on
pictures with boxes drawn on them.

Pictures are (height, width, 3), BGR, 8 bits, as OpenCV has them.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.files import read_text

Picture: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | os.PathLike[str] | int | NDArray[Any]
"""A picture, its file, a folder, a glob, a text list, a video file, a camera's number, or "-" for a
list on standard input."""

PICTURE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
LIST_ENDINGS = (".list", ".lst", ".txt")

RESULTS_MARK = ".caffe_detections"
"""A file of this name stands in every folder of results."""

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class PictureFile:
    """One picture."""

    path: Path


@dataclass(frozen=True)
class VideoFile:
    """The frames of a video."""

    path: Path


@dataclass(frozen=True)
class Camera:
    """What a camera shows, without end."""

    number: int


OnDisk: TypeAlias = PictureFile | VideoFile
Item: TypeAlias = OnDisk | Camera | NDArray[Any]


def items_of(sources: Source | Iterable[Source]) -> Iterator[Item]:
    """Take sources apart, one after the other as items are asked for.

    Args:
        sources: one or more, also without end. A folder stands for all pictures and videos below
            it, ordered by name. A list has a file, folder or glob per line, relative to the working
            folder or else to the list's; what follows a file's name in the lists of SSD (an
            annotation, a label) is ignored.

    Raises:
        FileError: something does not exist; names the list and the line, too.
        DataError: something is no source.
        UsageError: a folder holds results of this program.
    """
    if isinstance(sources, str | os.PathLike | int | np.ndarray):
        sources = [sources]
    for index, source in enumerate(sources):
        if isinstance(source, np.ndarray):
            yield source
        elif isinstance(source, int | np.integer) and not isinstance(source, bool):
            yield Camera(int(source))
        elif isinstance(source, str | os.PathLike):
            yield from _named(os.fspath(source))
        else:
            raise DataError(
                f"source {index} is neither a path nor a numpy array, but of type "
                f"{type(source).__name__}"
            )


def listed_items(path: str) -> Iterator[Item]:
    """The items of a text list, whatever its name; "-" is standard input.

    Raises:
        FileError: the list or what it names does not exist.
        DataError: it is empty, or no text.
    """
    if path == STANDARD_INPUT:
        lines, where, folder = sys.stdin.read().splitlines(), "standard input", Path()
    else:
        lines, where, folder = read_text(path).splitlines(), path, Path(path).parent
    if not any(line.strip() for line in lines):
        raise DataError(f"{where}: an empty list; it should name a picture per line")
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield from _of_line(line.strip(), folder, f"{where}:{number}")


def picture_files(folder: Path) -> list[Path]:
    """The pictures below a folder, ordered by name."""
    return [path for path in _files(folder) if path.suffix.lower() in PICTURE_ENDINGS]


def is_marked(folder: Path) -> bool:
    """Whether a folder holds results of this program."""
    return (folder / RESULTS_MARK).is_file()


def _named(name: str) -> Iterator[Item]:
    """The items of one name."""
    if name == STANDARD_INPUT:
        yield from listed_items(name)
    elif name.isdecimal() and not os.path.exists(name):
        yield Camera(int(name))
    elif Path(name).suffix.lower() in LIST_ENDINGS and os.path.isfile(name):
        yield from listed_items(name)
    else:
        yield from _of_files(name)


def _of_files(name: str) -> Iterator[Item]:
    """The items of a file, a folder or a glob."""
    path = Path(name)
    if path.is_dir():
        yield from _of_folder(path)
    elif path.exists():
        yield _item(path)
    elif glob.has_magic(name):
        found = [Path(each) for each in sorted(glob.glob(name, recursive=True))]
        items = [_item(each) for each in found if _is_seen(each) and not _is_result(each)]
        if not items:
            raise FileError(f"{name}: no picture or video has such a name")
        yield from items
    else:
        raise FileError(f"Could not open file {name}: No such file or directory")


def _of_folder(folder: Path) -> Iterator[Item]:
    if is_marked(folder):
        raise UsageError(
            f"the folder {folder} holds results, pictures with boxes drawn on them; name the "
            "pictures it was made from"
        )
    items = [_item(path) for path in _files(folder) if _is_seen(path)]
    if not items:
        endings = ", ".join((*PICTURE_ENDINGS, *VIDEO_ENDINGS))
        raise FileError(f"the folder {folder} holds no picture and no video ({endings})")
    yield from items


def _of_line(line: str, folder: Path, where: str) -> Iterator[Item]:
    """The items of a line; the lists of Caffe and SSD have a second column."""
    for name in (line, line.rpartition(" ")[0].strip()):
        for each in (name, os.path.join(folder, name)):
            if name and (os.path.exists(each) or glob.has_magic(each)):
                yield from _of_files(each)
                return
    raise FileError(f"{where}: {line!r}: No such file or directory")


def _files(folder: Path) -> list[Path]:
    """All files below a folder, ordered by name, without those of results."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_marked(Path(place, name))]
        found += [Path(place, name) for name in names]
    return sorted(found)


def _item(path: Path) -> Item:
    ending = path.suffix.lower()
    is_video = ending in VIDEO_ENDINGS
    if ending not in (*PICTURE_ENDINGS, *VIDEO_ENDINGS) and path.is_file():
        is_video = not cv2.haveImageReader(os.fspath(path)) and _opens_as_video(path)
    return VideoFile(path) if is_video else PictureFile(path)


def _opens_as_video(path: Path) -> bool:
    capture = cv2.VideoCapture(os.fspath(path))
    is_open = bool(capture.isOpened())
    capture.release()
    return is_open


def _is_seen(path: Path) -> bool:
    """Whether a file that nobody named is looked at."""
    return path.is_file() and path.suffix.lower() in (*PICTURE_ENDINGS, *VIDEO_ENDINGS)


def _is_result(path: Path) -> bool:
    return any(is_marked(folder) for folder in path.parents)
