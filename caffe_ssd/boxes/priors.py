"""Prior boxes: a fixed set of boxes for every cell of a feature map.

Spec: ssd-layers.md section 1.
Quirk: sizes are cut to whole pixels, so the 35.84 of SSD512 acts as 35.
Quirk: a ratio is skipped when it equals an earlier one, but the flipped ratio is always added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

_SAME_RATIO = 1e-6


def expand_ratios(given: Sequence[float], *, flip: bool) -> tuple[float, ...]:
    """The list of aspect ratios (width over height), beginning with 1.

    Args:
        given: ratios in the prototxt's order.
        flip: add 1 / ratio behind each.
    """
    ratios = [np.float32(1)]
    for ratio in map(np.float32, given):
        if any(abs(ratio - known) < _SAME_RATIO for known in ratios):
            continue
        ratios.append(ratio)
        if flip:
            ratios.append(np.float32(1) / ratio)
    return tuple(float(ratio) for ratio in ratios)


def cell_sizes(
    min_sizes: Sequence[float], max_sizes: Sequence[float], ratios: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """Widths and heights in pixels of the K priors of a cell, in the order of the blob.

    Args:
        min_sizes: at least one, positive.
        max_sizes: none, or as many as min sizes.
        ratios: what `expand_ratios` gave.
    """
    sizes: list[tuple[float, float]] = []
    for low, high in zip_longest(map(int, min_sizes), map(int, max_sizes)):
        sizes.append((low, low))
        if high is not None:
            sizes.append((math.sqrt(low * high),) * 2)
        for ratio in ratios:
            if abs(ratio - 1) >= _SAME_RATIO:
                sizes.append((low * math.sqrt(ratio), low / math.sqrt(ratio)))
    return tuple((float(np.float32(width)), float(np.float32(height))) for width, height in sizes)


def prior_boxes(
    sizes: Sequence[tuple[float, float]],
    *,
    map_size: tuple[int, int],
    image_size: tuple[int, int],
    step: tuple[float, float],
    offsets: Sequence[tuple[float, float]],
    clip: bool,
) -> Tensor:
    """The priors of a feature map.

    Args:
        sizes: K widths and heights in pixels, from `cell_sizes`.
        map_size: height and width of the feature map, in cells.
        image_size: height and width of the image, in pixels.
        step: height and width of a cell, in pixels.
        offsets: where in a cell the centres lie, (vertical, horizontal), 0.5 for the middle: one
            for each of the K, or one for all.
        clip: cut to [0, 1].

    Returns:
        [H * W * K, 4] float32, cell by cell from the top left, row by row.
    """
    # Centres and sizes are float32; the corners are computed in double and rounded once.
    where = np.asarray(offsets, np.float32)  # [K or 1, 2]
    center_y, center_x = (
        (
            (np.arange(cells, dtype=np.float32)[:, None] + where[:, axis]) * np.float32(length)
        ).astype(np.float64)
        for axis, (cells, length) in enumerate(zip(map_size, step, strict=True))
    )
    half = np.asarray(sizes, np.float64) / 2  # [K, 2]
    centers = np.stack(np.broadcast_arrays(center_x, center_y[:, None]), -1)  # [H, W, K or 1, 2]
    corners = np.concatenate([centers - half, centers + half], -1)  # [H, W, K, 4]
    height, width = image_size
    boxes = (corners / [width, height, width, height]).astype(np.float32).reshape(-1, 4)
    return torch.from_numpy(boxes.clip(0, 1) if clip else boxes)
