"""Draws images with their boxes and tiles them into one picture. Images are (H, W, 3), BGR."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lmdb_tools.images import Image

_GAP_PX = 8
_PAPER = (250, 250, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.42
_LEGEND_PX = 28
_DASH_PX = 10
_MOST_TEXTS = 8
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


def draw_boxes(image: Image, boxes: Sequence[DrawnBox], side_px: int) -> Image:
    """An image scaled to `side_px` on its longer side, with its boxes; the input stays as it is.

    Many boxes are drawn without their texts, which would hide the image: the legend tells them.
    """
    factor = side_px / max(image.shape[:2])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    tile = cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
    # Large boxes first, so that small ones stay readable on top.
    ordered = sorted(boxes, key=_area, reverse=True)
    for box in ordered:
        _draw_box(tile, box)
    if len(ordered) <= _MOST_TEXTS:
        for box in ordered:
            xmin, ymin, _, _ = _pixels(tile, box)
            _write(tile, box.text, (xmin, ymin), class_colour(box.label))
    return tile


def tile_images(tiles: Sequence[Image], side_px: int, legend: Mapping[int, str]) -> Image:
    """Lay images out in rows, each in the middle of its cell, with a legend of labels below."""
    columns = max(1, math.ceil(math.sqrt(len(tiles) * 1.5)))
    rows = [_row(tiles[i : i + columns], columns, side_px) for i in range(0, len(tiles), columns)]
    return np.vstack([_paper(_GAP_PX, rows[0].shape[1]), *rows, _legend(legend, rows[0].shape[1])])


def _row(tiles: Sequence[Image], columns: int, side_px: int) -> Image:
    cell = side_px + _GAP_PX
    height = max(tile.shape[0] for tile in tiles)
    row = _paper(height + _GAP_PX, columns * cell + _GAP_PX)
    for i, tile in enumerate(tiles):
        top = (height - tile.shape[0]) // 2
        left = _GAP_PX + i * cell + (side_px - tile.shape[1]) // 2
        row[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return row


def _legend(names: Mapping[int, str], width: int) -> Image:
    """Lines of coloured texts; dashed boxes are difficult objects."""
    lines = [_paper(_LEGEND_PX, width)]
    left = _GAP_PX
    for label, name in names.items():
        needed = _text_size(name)[0] + _GAP_PX
        if left + needed > width and left > _GAP_PX:
            lines.append(_paper(_LEGEND_PX, width))
            left = _GAP_PX
        _write(lines[-1], name, (left, _LEGEND_PX - 4), class_colour(label))
        left += needed
    return np.vstack(lines)


def _paper(height: int, width: int) -> Image:
    return np.full((height, width, 3), _PAPER, np.uint8)


def class_colour(label: int) -> tuple[int, int, int]:
    """A vivid BGR colour of a class."""
    hue = (label * _GOLDEN_ANGLE) % 360 / 2
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    blue, green, red = cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def _area(box: DrawnBox) -> float:
    xmin, ymin, xmax, ymax = box.corners.tolist()
    return float((xmax - xmin) * (ymax - ymin))


def _pixels(tile: Image, box: DrawnBox) -> tuple[int, int, int, int]:
    """The first and last column and row of a box, inside the tile."""
    height, width = tile.shape[:2]
    corners = np.clip(np.nan_to_num(box.corners), 0, 1) * (width, height, width, height)
    xmin, ymin, xmax, ymax = (round(v) for v in corners.tolist())
    return xmin, ymin, max(xmin, xmax - 1), max(ymin, ymax - 1)


def _draw_box(tile: Image, box: DrawnBox) -> None:
    xmin, ymin, xmax, ymax = _pixels(tile, box)
    colour = class_colour(box.label)
    if not box.dashed:
        cv2.rectangle(tile, (xmin, ymin), (xmax, ymax), colour, 2)
        return
    for x in range(xmin, xmax, _DASH_PX):
        end = min(x + _DASH_PX // 2, xmax)
        cv2.line(tile, (x, ymin), (end, ymin), colour, 2)
        cv2.line(tile, (x, ymax), (end, ymax), colour, 2)
    for y in range(ymin, ymax, _DASH_PX):
        end = min(y + _DASH_PX // 2, ymax)
        cv2.line(tile, (xmin, y), (xmin, end), colour, 2)
        cv2.line(tile, (xmax, y), (xmax, end), colour, 2)


def _text_size(text: str) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    return width + 4, height + 5


def _write(tile: Image, text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a tag above the corner, or below it where there is no room."""
    width, height = _text_size(text)
    left = max(0, min(corner[0] - 1, tile.shape[1] - width))
    top = corner[1] - height if corner[1] >= height else corner[1]
    cv2.rectangle(tile, (left, top), (left + width, top + height), colour, -1)
    ink = (20, 20, 20) if np.dot(colour, (0.114, 0.587, 0.299)) > 110 else (255, 255, 255)
    cv2.putText(tile, text, (left + 2, top + height - 3), _FONT, _FONT_SCALE, ink, 1, cv2.LINE_AA)
