"""Lazy pictures: distorting, pasting, cropping and JPEG round trips of only the pixels in demand.

Spec: ssd-data.md section 4, stages 1 to 3.

The stages are drawn before any pixel is touched, so a crop at the end limits the work of all stages
before it. `read` of a window returns exactly what computing the whole picture and cutting the
window out would return.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from caffe_ssd.data.decode import Image, jpeg_roundtrip
from caffe_ssd.data.distort import Distortion

# JPEG with 4:2:0 chroma codes blocks of 16x16 pixels; upsampling the chroma looks one sample, which
# is two pixels, across a border.
_BLOCK = 16
_REACH = 2

# OpenCV converts as many pixels of a row at once as a register holds, and the rest of the row by
# code that rounds differently. So a window must begin and end where the whole row's groups do.
_LANES = 64


class PixelWindow(NamedTuple):
    """A rectangle in pixels; the ends are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def is_empty(self) -> bool:
        return self.x1 <= self.x0 or self.y1 <= self.y0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    def moved(self, x: int, y: int) -> PixelWindow:
        """The window shifted by (x, y)."""
        return PixelWindow(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y)

    def intersect(self, other: PixelWindow) -> PixelWindow:
        """The common part; may be empty."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        return PixelWindow(x0, y0, min(self.x1, other.x1), min(self.y1, other.y1))

    def whole_blocks(self, margin: int) -> PixelWindow:
        """The JPEG blocks of the window with `margin` more pixels on every side."""
        x0, y0 = ((v - margin) // _BLOCK * _BLOCK for v in (self.x0, self.y0))
        x1, y1 = (-(-(v + margin) // _BLOCK) * _BLOCK for v in (self.x1, self.y1))
        return PixelWindow(x0, y0, x1, y1)


class Picture(ABC):
    """An image that may not have been computed yet.

    Args:
        height: H.
        width: W.
        channels: C.
        dtype: of the pixels.
        content: pixels outside of it all equal `fill`.
    """

    def __init__(
        self, height: int, width: int, channels: int, dtype: np.dtype[Any], content: PixelWindow
    ) -> None:
        self.height = height
        self.width = width
        self.channels = channels
        self.dtype = dtype
        self.content = content

    @cached_property
    @abstractmethod
    def fill(self) -> Image:
        """The pixel outside of the content, [C]; meaningless where the content is everything."""

    @property
    def window(self) -> PixelWindow:
        """All of the picture."""
        return PixelWindow(0, 0, self.width, self.height)

    @abstractmethod
    def read(self, window: PixelWindow) -> Image:
        """The pixels of a window inside the picture, [height, width, C]."""

    def pixels(self) -> Image:
        """All pixels, [H, W, C]."""
        return self.read(self.window)


class Decoded(Picture):
    """An image in memory."""

    def __init__(self, image: Image) -> None:
        height, width, channels = image.shape
        super().__init__(height, width, channels, image.dtype, PixelWindow(0, 0, width, height))
        self._image = image

    @cached_property
    def fill(self) -> Image:
        return np.zeros(self.channels, self.dtype)

    def read(self, window: PixelWindow) -> Image:
        return self._image[window.y0 : window.y1, window.x0 : window.x1]


class Distorted(Picture):
    """A picture whose every pixel went through a distortion."""

    def __init__(self, source: Picture, distortion: Distortion) -> None:
        super().__init__(source.height, source.width, source.channels, source.dtype, source.content)
        self._source = source
        self._distortion = distortion

    @cached_property
    def fill(self) -> Image:
        pixel: Image = self._distortion(self._source.fill[None, None])[0, 0]
        return pixel

    def read(self, window: PixelWindow) -> Image:
        x0 = window.x0 // _LANES * _LANES
        x1 = min(-(-window.x1 // _LANES) * _LANES, self.width)
        image = self._distortion(self._source.read(PixelWindow(x0, window.y0, x1, window.y1)))
        return image[:, window.x0 - x0 : window.x1 - x0]


class Pasted(Picture):
    """A picture on a larger canvas.

    Args:
        source: what is pasted.
        height: of the canvas.
        width: of the canvas.
        x_off: column of the source's left edge.
        y_off: row of the source's upper edge.
        fill: colour of the canvas, [C], 0 to 255.
    """

    def __init__(
        self, source: Picture, *, height: int, width: int, x_off: int, y_off: int, fill: Image
    ) -> None:
        content = source.window.moved(x_off, y_off)
        super().__init__(height, width, source.channels, source.dtype, content)
        self._source = source
        self._fill = fill
        self._x_off = x_off
        self._y_off = y_off

    @cached_property
    def fill(self) -> Image:
        return self._fill.astype(self.dtype)

    def read(self, window: PixelWindow) -> Image:
        inner = self.content.intersect(window)
        image = None
        if not inner.is_empty:
            image = self._source.read(inner.moved(-self._x_off, -self._y_off))
        return _on_canvas(self, window, inner, image)


class Cropped(Picture):
    """A window of a picture."""

    def __init__(self, source: Picture, window: PixelWindow) -> None:
        content = source.content.intersect(window).moved(-window.x0, -window.y0)
        super().__init__(window.height, window.width, source.channels, source.dtype, content)
        self._source = source
        self._window = window

    @cached_property
    def fill(self) -> Image:
        return self._source.fill

    def read(self, window: PixelWindow) -> Image:
        return self._source.read(window.moved(self._window.x0, self._window.y0))


class Recompressed(Picture):
    """A picture after a JPEG round trip."""

    def __init__(self, source: Picture) -> None:
        content = source.content
        if not content.is_empty:
            content = content.whole_blocks(_BLOCK).intersect(source.window)
        super().__init__(source.height, source.width, source.channels, source.dtype, content)
        self._source = source

    @cached_property
    def fill(self) -> Image:
        return np.array(_coded(tuple(self._source.fill.tolist())), self.dtype)

    def read(self, window: PixelWindow) -> Image:
        inner = self.content.intersect(window)
        if inner.is_empty:
            return _on_canvas(self, window, inner, None)
        # Where the content ends inside the picture, a whole block of fill surrounds it, whose
        # neighbours are fill, too: nothing outside of the content can change it.
        coded = inner.whole_blocks(_REACH).intersect(self.content)
        image = jpeg_roundtrip(self._source.read(coded))
        y, x = inner.y0 - coded.y0, inner.x0 - coded.x0
        image = image[y : y + inner.height, x : x + inner.width]
        return _on_canvas(self, window, inner, image)


@lru_cache(maxsize=64)
def _coded(pixel: tuple[int, ...]) -> tuple[int, ...]:
    """A pixel among others of its colour after a round trip; nearly always the colour is a mean."""
    block = np.full((_BLOCK, _BLOCK, len(pixel)), pixel, np.uint8)
    return tuple(jpeg_roundtrip(block)[0, 0].tolist())


def _on_canvas(
    picture: Picture, window: PixelWindow, inner: PixelWindow, image: Image | None
) -> Image:
    """The pixels of `window`: `image` at `inner`, the fill around it."""
    if image is not None and inner == window:
        return image
    canvas = np.empty((window.height, window.width, picture.channels), picture.dtype)
    row = np.empty(canvas.shape[1:], picture.dtype)
    row[:] = picture.fill
    if image is None:
        canvas[:] = row
        return canvas
    # By whole rows memory is copied; filling by pixels is ten times slower.
    y0, x0 = inner.y0 - window.y0, inner.x0 - window.x0
    y1, x1 = y0 + inner.height, x0 + inner.width
    canvas[:y0], canvas[y1:] = row, row
    canvas[y0:y1, :x0], canvas[y0:y1, x1:] = row[:x0], row[x1:]
    canvas[y0:y1, x0:x1] = image
    return canvas
