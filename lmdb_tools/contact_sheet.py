"""Draws images with their boxes and tiles them into one picture. Images are (H, W, 3), BGR."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from caffe_ssd.data.drawing import (
    DrawnBox,
    Pen,
    class_colour,
    draw_frame,
    draw_tag,
    tag_size_px,
    write_tag,
)
from lmdb_tools.images import Image

__all__ = ["DrawnBox", "class_colour", "draw_boxes", "tile_images"]

_GAP_PX = 8
_PAPER = (250, 250, 250)
_PEN = Pen()
_LEGEND_PX = 28
_MOST_TEXTS = 8


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
        draw_frame(tile, box, _PEN)
    if len(ordered) <= _MOST_TEXTS:
        for box in ordered:
            draw_tag(tile, box, _PEN)
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
        needed = tag_size_px(name, _PEN)[0] + _GAP_PX
        if left + needed > width and left > _GAP_PX:
            lines.append(_paper(_LEGEND_PX, width))
            left = _GAP_PX
        write_tag(lines[-1], name, (left, _LEGEND_PX - 4), class_colour(label), _PEN)
        left += needed
    return np.vstack(lines)


def _paper(height: int, width: int) -> Image:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _area(box: DrawnBox) -> float:
    xmin, ymin, xmax, ymax = box.corners.tolist()
    return float((xmax - xmin) * (ymax - ymin))
