"""Draws labelled boxes on images: the one implementation of the engine's and the tools' pictures.

`caffe.models.detection` draws too: it must run on a build of the original, where this is absent.
Images are (H, W, 3), BGR, 8 bits; colours are BGR.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_DASH_PX = 10
_GOLDEN_ANGLE = 137.508  # hues this far apart stay distinct however many classes there are


@dataclass(frozen=True, kw_only=True)
class DrawnBox:
    """A box to draw.

    Args:
        label: decides the colour.
        text: written on the box.
        corners: [xmin, ymin, xmax, ymax], normalised.
        dashed: for difficult ones.
    """

    label: int
    text: str
    corners: NDArray[np.float32]
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Pen:
    """How thick lines and how large letters are.

    Args:
        line_px: thickness of a box's lines.
        font_scale: of OpenCV's plain font; 1 makes capitals about 22 pixels high.
    """

    line_px: int = 2
    font_scale: float = 0.42

    @classmethod
    def for_size(cls, height: int, width: int) -> Pen:
        """A pen that stays readable on an image of this size."""
        side = min(height, width)
        return cls(line_px=max(1, round(side / 250)), font_scale=max(0.42, side / 900))


def class_colour(label: int) -> Colour:
    """A vivid colour of a class."""
    hue = (label * _GOLDEN_ANGLE) % 360 / 2
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def draw_boxes_on(image: Image, boxes: Iterable[DrawnBox], pen: Pen) -> Image:
    """A copy of an image with boxes and their texts; later boxes are drawn over earlier ones."""
    canvas = image.copy()
    for box in boxes:
        draw_frame(canvas, box, pen)
        draw_tag(canvas, box, pen)
    return canvas


def draw_frame(canvas: Image, box: DrawnBox, pen: Pen) -> None:
    """Draw the lines of a box onto `canvas`; what lies outside of the image is cut off."""
    xmin, ymin, xmax, ymax = _pixels(canvas, box)
    colour = class_colour(box.label)
    if not box.dashed:
        cv2.rectangle(canvas, (xmin, ymin), (xmax, ymax), colour, pen.line_px)
        return
    for x in range(xmin, xmax, _DASH_PX):
        end = min(x + _DASH_PX // 2, xmax)
        cv2.line(canvas, (x, ymin), (end, ymin), colour, pen.line_px)
        cv2.line(canvas, (x, ymax), (end, ymax), colour, pen.line_px)
    for y in range(ymin, ymax, _DASH_PX):
        end = min(y + _DASH_PX // 2, ymax)
        cv2.line(canvas, (xmin, y), (xmin, end), colour, pen.line_px)
        cv2.line(canvas, (xmax, y), (xmax, end), colour, pen.line_px)


def draw_tag(canvas: Image, box: DrawnBox, pen: Pen) -> None:
    """Write a box's text onto `canvas` at the box's upper left corner."""
    xmin, ymin, _, _ = _pixels(canvas, box)
    write_tag(canvas, box.text, (xmin, ymin), class_colour(box.label), pen)


def tag_size_px(text: str, pen: Pen) -> tuple[int, int]:
    """Width and height of a tag."""
    (width, height), _ = cv2.getTextSize(text, _FONT, pen.font_scale, 1)
    return width + 4, height + 5


def write_tag(canvas: Image, text: str, corner: tuple[int, int], colour: Colour, pen: Pen) -> None:
    """Write on a bar above the corner (x, y), or below it where there is no room."""
    width, height = tag_size_px(text, pen)
    left = max(0, min(corner[0] - 1, canvas.shape[1] - width))
    top = corner[1] - height if corner[1] >= height else corner[1]
    cv2.rectangle(canvas, (left, top), (left + width, top + height), colour, -1)
    ink = (20, 20, 20) if np.dot(colour, (0.114, 0.587, 0.299)) > 110 else (255, 255, 255)
    origin = (left + 2, top + height - 3)
    cv2.putText(canvas, text, origin, _FONT, pen.font_scale, ink, 1, cv2.LINE_AA)


def _pixels(canvas: NDArray[Any], box: DrawnBox) -> tuple[int, int, int, int]:
    """The first and last column and row of a box, inside the image."""
    height, width = canvas.shape[:2]
    corners = np.clip(np.nan_to_num(box.corners), 0, 1) * (width, height, width, height)
    xmin, ymin, xmax, ymax = (round(v) for v in corners.tolist())
    return xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)
