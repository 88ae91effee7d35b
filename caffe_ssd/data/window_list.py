"""Window files: which boxes of which images R-CNN's training may show, and their classes.

Spec: caffe-layers.md section H, WindowData.
Quirk: a window counts as foreground or background by its overlap alone; one that lies between the
    two thresholds is left out.
Quirk: a path ends at the first blank.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import DataError
from caffe_ssd.files import MAX_BYTES, read_text

CHANNELS = 3  # images are read as BGR, whatever they are


class ListedWindow(NamedTuple):
    """One line of the file; the ends x2 and y2 are inclusive, `image` counts from 0."""

    image: int
    label: int
    x1: int
    y1: int
    x2: int
    y2: int
    line: int


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """What a window file lists.

    Args:
        path: the file.
        images: paths of its images.
        foreground: [n, 7], rows as in `ListedWindow`.
        background: likewise; their label is 0.
    """

    path: str
    images: tuple[str, ...]
    foreground: NDArray[np.int32]
    background: NDArray[np.int32]


def read_windows(
    path: str, *, root_folder: str = "", fg_threshold: float = 0.5, bg_threshold: float = 0.5
) -> WindowSet:
    """Read a window file.

    It consists of one block per image, `# index path channels height width count`, each followed
    by `count` windows `class overlap x1 y1 x2 y2`; line ends mean no more than blanks.

    Args:
        path: the file.
        root_folder: put before the paths as it is.
        fg_threshold: least overlap of a foreground window.
        bg_threshold: a background window overlaps less.

    Raises:
        FileError: it cannot be read.
        DataError: it is wrong; names the line.
    """
    images: list[str] = []
    rows, overlaps = array("i"), array("f")
    # A path may be any bytes; surrogates carry what is not UTF-8 to the file system.
    lines = read_text(path, limit=MAX_BYTES, errors="surrogateescape").splitlines()
    words = _Words(path, iter(lines))
    while words.more():
        images.append(root_folder + _read_block(words, len(images), rows, overlaps))
    if not images:
        raise DataError(f"{path}: lists no images")
    table = np.array(rows, np.int32).reshape(-1, len(ListedWindow._fields))
    overlap = np.array(overlaps, np.float32)
    is_foreground = overlap >= np.float32(fg_threshold)
    foreground = table[is_foreground]
    background = table[~is_foreground & (overlap < np.float32(bg_threshold))]
    background[:, 1] = 0
    for row in foreground[foreground[:, 1] <= 0][:1]:
        window = ListedWindow(*row.tolist())
        raise DataError(
            f"{path}:{window.line}: class {window.label} in a foreground window (overlap >= "
            f"{fg_threshold:g}); classes count from 1, as 0 is the background"
        )
    return WindowSet(path=path, images=tuple(images), foreground=foreground, background=background)


class _Words:
    """The words of a file, and the line where those taken last begin."""

    def __init__(self, path: str, lines: Iterator[str]) -> None:
        self.path = path
        self.line = 0
        self._lines = lines
        self._lines_read = 0
        self._words: list[str] = []

    def more(self) -> bool:
        """Whether there is another word."""
        while not self._words:
            line = next(self._lines, None)
            if line is None:
                return False
            self._lines_read += 1
            self._words = line.split()
        return True

    def take(self, count: int, what: str) -> list[str]:
        """The next words, which the file must have."""
        taken: list[str] = []
        while len(taken) < count:
            is_there = self.more()
            if not (taken and is_there):
                self.line = self._lines_read
            if not is_there:
                raise self.error(f"the file ends where {what} should follow")
            missing = count - len(taken)
            taken += self._words[:missing]
            self._words = self._words[missing:]
        return taken

    def integers(self, count: int, what: str) -> list[int]:
        """The next words as whole numbers."""
        words = self.take(count, what)
        try:
            return [int(word) for word in words]
        except ValueError:
            raise self.error(f"{' '.join(words)!r} is not {what}") from None

    def error(self, problem: str) -> DataError:
        return DataError(f"{self.path}:{self.line}: {problem}")


def _read_block(words: _Words, number: int, rows: array[int], overlaps: array[float]) -> str:
    """Append the windows of an image to `rows` and `overlaps`; returns the image's path."""
    (mark,) = words.take(1, "`# index`")
    if mark != "#":
        raise words.error(f"the block of an image begins with `# index`, got {mark!r}")
    (index,) = words.integers(1, "the index of an image")
    if index != number:
        raise words.error(f"the block of image {number}, counted from 0, has index {index}")
    (path,) = words.take(1, "the path of an image")
    (channels,) = words.integers(1, "the number of channels of an image")
    if channels != CHANNELS:
        raise words.error(
            f"channels of {path!r} must be 3, as images are read in colour, got {channels}"
        )
    words.integers(2, "the height and width of an image")
    (count,) = words.integers(1, "a number of windows")
    for _ in range(count):
        window = words.take(6, "a window")
        try:
            overlap = float(window[1])
            if not math.isfinite(overlap):
                raise ValueError("not finite")
            overlaps.append(overlap)
            rows.extend((number, int(window[0]), *map(int, window[2:]), words.line))
        except (ValueError, OverflowError):
            raise words.error(
                f"{' '.join(window)!r} is not `class overlap x1 y1 x2 y2`; see also the number of "
                f"windows of {path!r}, {count}"
            ) from None
    return path
