"""R-CNN windows: the draw of a batch, and the cut of a window from its image.

Spec: caffe-layers.md section H, WindowData.
Quirk: ends of boxes are inclusive; a box that is grown ends one pixel behind its context.
Quirk: what lies outside the image is 0 after the mean and the scale.
Quirk: the mean file's offset is that of its width, for rows too, and the mean is not mirrored.

The windows drawn are the reference's: its generator gives one word per window, and one more if
mirroring is on. So batch b needs the words from a known place on, whoever computes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import copysign, floor
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.data.batches import Batch, Reader
from caffe_ssd.data.decode import ColorMode, Image, decode_bytes
from caffe_ssd.data.mean import Mean
from caffe_ssd.data.pictures import PixelWindow
from caffe_ssd.data.window_list import CHANNELS, ListedWindow, WindowSet
from caffe_ssd.errors import DataError, FileError
from caffe_ssd.files import read_bytes
from caffe_ssd.random import CaffeRandom


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where the pixels of a blob come from; on one axis or on both they may not fill it.

    Args:
        source: in the image.
        size: (height, width) that it is resized to, in pixels.
        offset: (row, column) of its corner in the blob.
    """

    source: PixelWindow
    size: tuple[int, int]
    offset: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Warp:
    """How windows become squares.

    Args:
        crop_size: rows and columns of the result.
        context_pad: pixels of the result, on each side, that show what surrounds the box.
        square: grow the shorter side of a box to the longer one first.
    """

    crop_size: int
    context_pad: int = 0
    square: bool = False

    def cut(self, window: ListedWindow, *, height: int, width: int, mirrored: bool) -> Cut:
        """The part of an image to show.

        Args:
            window: its box.
            height: of the image, in pixels.
            width: likewise.
            mirrored: whether the result will be mirrored; then the right padding comes first.

        Raises:
            DataError: the box is empty or lies outside the image; without context, partly so.
        """
        x1, y1, x2, y2 = window.x1, window.y1, window.x2, window.y2
        if x2 < x1 or y2 < y1:
            raise DataError(f"box {x1} {y1} {x2} {y2} is empty")
        if not (self.context_pad or self.square):
            if x1 < 0 or y1 < 0 or x2 >= width or y2 >= height:
                raise DataError(
                    f"box {x1} {y1} {x2} {y2} leaves its image of {height} x {width} pixels, for "
                    "which there must be a context_pad or crop_mode square"
                )
            source = PixelWindow(x1, y1, x2 + 1, y2 + 1)
            return Cut(source=source, size=(self.crop_size, self.crop_size), offset=(0, 0))
        half_x, half_y = np.float32((x2 - x1 + 1) / 2), np.float32((y2 - y1 + 1) / 2)
        reach_x = reach_y = max(half_x, half_y)
        if not self.square:
            reach_x, reach_y = half_x, half_y
        x = self._grow(np.float32(x1) + half_x, reach_x, width, mirrored)
        y = self._grow(np.float32(y1) + half_y, reach_y, height, False)
        if x.end <= x.start or y.end <= y.start:
            raise DataError(
                f"box {x1} {y1} {x2} {y2} lies outside its image of {height} x {width} pixels"
            )
        return Cut(
            source=PixelWindow(x.start, y.start, x.end, y.end),
            size=(y.size, x.size),
            offset=(y.offset, x.offset),
        )

    def _grow(self, centre: np.float32, reach: np.float32, limit: int, mirrored: bool) -> _Span:
        """Grow a box by its context along one axis and clip it to the image, 0..limit."""
        crop = np.float32(self.crop_size)
        context = crop / np.float32(self.crop_size - 2 * self.context_pad)
        first, last = _round(centre - reach * context), _round(centre + reach * context)
        before, after = max(0, -first), max(0, last - limit + 1)
        start, end = first + before, last - after + 1
        scale = crop / np.float32(last - first + 1)
        offset = _round(np.float32(after if mirrored else before) * scale)
        # Rounded separately, padding and pixels may be too long together.
        size = min(_round(np.float32(end - start) * scale), self.crop_size - offset)
        return _Span(start, end, size, offset)


class _Span(NamedTuple):
    """One axis of a `Cut`."""

    start: int
    end: int
    size: int
    offset: int


def _round(value: np.float32) -> int:
    """To the nearest whole number; halves go away from zero, as C rounds."""
    return int(copysign(floor(abs(float(value)) + 0.5), value))


class WindowReader(Reader):
    """Reads batches of windows by their number: background first, then foreground.

    Args:
        windows: what to draw from.
        warp: how a window is cut out.
        mean: subtracted; its file is at least as large as the crop.
        scale: factor after that.
        mirror: mirror every other window, at random.
        batch_size: windows per batch.
        num_foreground: how many of them are foreground.
        seed: of the draws.
        cached: keep the files of all images in memory.

    Raises:
        DataError: there is nothing to draw, an image cannot be read for the cache, or the mean
            file is too small.
    """

    def __init__(
        self,
        *,
        windows: WindowSet,
        warp: Warp,
        mean: Mean,
        scale: float = 1.0,
        mirror: bool = False,
        batch_size: int,
        num_foreground: int,
        seed: int,
        cached: bool = False,
    ) -> None:
        self.windows = windows
        self.warp = warp
        self.scale = np.float32(scale)
        self.mirror = mirror
        self.batch_size = batch_size
        self.num_foreground = num_foreground
        self.seed = seed
        self._mean = _mean_of_crop(mean, warp.crop_size)
        for kind, rows, wanted in (
            ("background", windows.background, batch_size - num_foreground),
            ("foreground", windows.foreground, num_foreground),
        ):
            if wanted and not len(rows):
                raise DataError(
                    f"{windows.path}: lists no {kind} windows, but a batch of {batch_size} has "
                    f"{wanted}; see fg_threshold, bg_threshold and fg_fraction"
                )
        self._files = tuple(map(_read_file, windows.images)) if cached else None
        self._words_drawn = 0
        self._rng = CaffeRandom(seed)

    def read(self, batch: int) -> Batch:
        """Batch number `batch`: data (N, 3, S, S) and the classes (N); 0 is the background.

        Raises:
            DataError: an image or a box is wrong; names the line of the window.
        """
        side = self.warp.crop_size
        data = np.zeros((self.batch_size, CHANNELS, side, side), np.float32)
        labels = np.zeros(self.batch_size, np.float32)
        for item, (window, mirrored) in enumerate(self._draw(batch)):
            labels[item] = window.label
            try:
                self._show(window, mirrored, data[item])
            except DataError as error:
                image = self.windows.images[window.image]
                raise DataError(
                    f"{self.windows.path}:{window.line}: {error}; image {image!r}"
                ) from None
        return torch.from_numpy(data), torch.from_numpy(labels)

    def _draw(self, batch: int) -> Iterator[tuple[ListedWindow, bool]]:
        """The windows of a batch, and whether they are mirrored."""
        each = 2 if self.mirror else 1
        words = self._words(batch * self.batch_size * each, self.batch_size * each)
        num_background = self.batch_size - self.num_foreground
        for item, word in enumerate(words[::each]):
            rows = self.windows.background if item < num_background else self.windows.foreground
            mirrored = self.mirror and words[item * each + 1] % 2 == 1
            yield ListedWindow(*rows[word % len(rows)].tolist()), bool(mirrored)

    def _words(self, start: int, count: int) -> NDArray[np.uint32]:
        """Words start, start + 1, ... of the stream."""
        if start < self._words_drawn:
            self._rng, self._words_drawn = CaffeRandom(self.seed), 0
        while self._words_drawn < start:
            self._words_drawn += len(self._rng.words(min(start - self._words_drawn, 1 << 20)))
        self._words_drawn += count
        return self._rng.words(count)

    def _show(self, window: ListedWindow, mirrored: bool, blob: NDArray[np.float32]) -> None:
        """Write the pixels of a window into its blob [3, S, S], which is 0."""
        image = self._image(window.image)
        height, width = image.shape[:2]
        cut = self.warp.cut(window, height=height, width=width, mirrored=mirrored)
        if min(cut.size) < 1:
            return  # so little of the window is inside the image that no pixel is left of it
        source = cut.source
        part = image[source.y0 : source.y1, source.x0 : source.x1]
        part = cv2.resize(part, cut.size[::-1], interpolation=cv2.INTER_LINEAR)
        if mirrored:
            part = cv2.flip(part, 1)
        rows, columns = (
            slice(first, first + size) for first, size in zip(cut.offset, cut.size, strict=True)
        )
        pixels = part.transpose(2, 0, 1).astype(np.float32)
        blob[:, rows, columns] = (pixels - self._mean[:, rows, columns]) * self.scale

    def _image(self, number: int) -> Image:
        if self._files is None:
            data = _read_file(self.windows.images[number])
        else:
            data = self._files[number]
        return decode_bytes(data, ColorMode.COLOR)


def _read_file(path: str) -> bytes:
    try:
        return read_bytes(path)
    except FileError as error:
        raise DataError(f"{error}; check root_folder") from None


def _mean_of_crop(mean: Mean, side: int) -> NDArray[np.float32]:
    """The mean of every pixel of a blob, [3, side, side]."""
    height, width = mean.values.shape[1:]
    first = (width - side) // 2
    if mean.file and (first < 0 or first + side > height):
        raise DataError(
            f"the mean of {mean.file!r} is {height} x {width}, too small for crop_size {side}"
        )
    window = PixelWindow(first, first, first + side, first + side)
    inside = mean.inside(window, (height, width, CHANNELS))
    return np.broadcast_to(inside, (CHANNELS, side, side))
