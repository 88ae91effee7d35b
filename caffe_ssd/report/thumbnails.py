"""Small pictures of a test set with boxes, as JPEG files that a page holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.decode import ColorMode, decode_datum
from caffe_ssd.data.drawing import DrawnBox, Image, Pen, draw_frame, draw_tag
from caffe_ssd.data.records import RecordSource
from caffe_ssd.data.samples import parse_detection
from caffe_ssd.errors import DataError, FileError
from caffe_ssd.evaluate.results import ImageSize

_QUALITY = 80
_KEPT = 4
_CROP_PX = 240
_WHOLE_PX = 520
_AROUND = 2.2  # sides of a crop in those of its box
_LEAST_PX = 48


class Thumbnails:
    """Cuts and draws pictures; keeps the last ones that it decoded.

    Args:
        source: the records.
        sizes: of the images that boxes refer to, by their number.
    """

    def __init__(self, source: RecordSource, sizes: Sequence[ImageSize]) -> None:
        self._source = source
        self._sizes = sizes
        self._images: OrderedDict[int, Image] = OrderedDict()

    def whole(self, image: int, boxes: Sequence[DrawnBox]) -> bytes:
        """A whole picture.

        Args:
            image: its number.
            boxes: to draw, normalised; those with a text get a tag.

        Raises:
            DataError: it cannot be read.
        """
        pixels = self._pixels(image)
        scale = min(1.0, _WHOLE_PX / max(pixels.shape[:2]))
        return _jpeg(_drawn(_resized(pixels, scale), boxes))

    def crop(self, image: int, box_px: NDArray[np.float64], boxes: Sequence[DrawnBox]) -> bytes:
        """A box with what surrounds it.

        Args:
            image: the picture's number.
            box_px: (x, y, width, height).
            boxes: to draw, normalised to the picture.

        Raises:
            DataError: it cannot be read.
        """
        pixels = self._pixels(image)
        height, width = pixels.shape[:2]
        size = self._sizes[image]
        box = box_px * np.array([width / size.width, height / size.height] * 2)
        left, top, side_x, side_y = _window(box, width, height)
        part = pixels[top : top + side_y, left : left + side_x]
        move = np.array([left / width, top / height] * 2)
        grow = np.array([width / side_x, height / side_y] * 2)
        moved = [replace(b, corners=((b.corners - move) * grow).astype(np.float32)) for b in boxes]
        scale = _CROP_PX / max(side_x, side_y)
        return _jpeg(_drawn(_resized(part, scale), moved))

    def corners(self, image: int, box_px: NDArray[np.float64]) -> NDArray[np.float32]:
        """A box (x, y, width, height) as normalised corners."""
        size = self._sizes[image]
        x, y, width, height = box_px.tolist()
        whole = np.array([size.width, size.height] * 2)
        return np.asarray(np.array([x, y, x + width, y + height]) / whole, np.float32)

    def _pixels(self, image: int) -> Image:
        if image not in self._images:
            datum = parse_detection(self._source[image]).datum
            pixels = decode_datum(datum, ColorMode.COLOR)
            if pixels.shape[2] == 1:
                pixels = pixels.repeat(3, axis=2)
            if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
                raise DataError(f"{self._source.where(image)} is no picture of 8 bits to show")
            self._images[image] = pixels
            if len(self._images) > _KEPT:
                self._images.popitem(last=False)
        self._images.move_to_end(image)
        return self._images[image]


def _window(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """A square around a box, moved and, if need be, cut to lie in the picture."""
    x, y, box_width, box_height = box.tolist()
    side = max(_AROUND * max(box_width, box_height), _LEAST_PX)
    side_x, side_y = min(round(side), width), min(round(side), height)
    left = min(max(round(x + box_width / 2 - side_x / 2), 0), width - side_x)
    top = min(max(round(y + box_height / 2 - side_y / 2), 0), height - side_y)
    return left, top, side_x, side_y


def _resized(pixels: Image, scale: float) -> Image:
    if scale == 1:
        return pixels
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)


def _drawn(pixels: Image, boxes: Sequence[DrawnBox]) -> Image:
    canvas = np.ascontiguousarray(pixels).copy()
    pen = Pen(line_px=2, font_scale=0.4)
    for box in boxes:
        draw_frame(canvas, box, pen)
    for box in boxes:
        if box.text:
            draw_tag(canvas, box, pen)
    return canvas


def _jpeg(pixels: Image) -> bytes:
    is_done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not is_done:
        raise FileError("a thumbnail could not be encoded")
    return bytes(data)
