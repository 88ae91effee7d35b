"""Prior sizes that fit the objects of a data set.

A prior learns from the objects that it overlaps by half or more (IoU). Priors of a coarse map stand
far apart, so an object is seldom near the centre of one: here it is taken to be a quarter of a step
away in both directions, as it is on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from caffe.models.datasets import PriorRatios
from numpy.typing import NDArray

Shapes = NDArray[np.float64]
"""(N, 2): width and height as shares of the picture's."""

MATCHED = 0.5
_FINEST_STEP_PX = 8  # of the first map of every model
_FINEST = ((2, 4), (3, 6), (4, 8), (5, 10), (6, 12), (7, 15), (10, 20), (15, 30), (20, 35))
_HIGHEST = (40, 50, 60, 70, 80, 90)


def fitting_ratios(
    objects: Shapes,
    labels: NDArray[np.int64],
    aspect_ratios: Sequence[Sequence[float]],
    image_size: int,
) -> PriorRatios:
    """The sizes under which most objects are matched, and closely; all classes count the same.

    Args:
        objects: shapes of the training objects.
        labels: their classes.
        aspect_ratios: of each map, without 1 and without inverses.
        image_size: side of the net's input in pixels.
    """
    num_maps = len(aspect_ratios)
    candidates = [
        PriorRatios(first=first, lowest=first[1], highest=max(highest, first[1] + num_maps))
        for first, highest in product(_FINEST, _HIGHEST)
    ]
    weights = 1 / np.bincount(labels)[labels]
    scores = []
    for each in candidates:
        overlaps = best_overlaps(objects, each, aspect_ratios, image_size)
        scores.append(float((weights * (overlaps + (overlaps >= MATCHED))).sum()))
    return candidates[int(np.argmax(scores))]


def best_overlaps(
    objects: Shapes,
    ratios: PriorRatios,
    aspect_ratios: Sequence[Sequence[float]],
    image_size: int,
) -> NDArray[np.float64]:
    """The IoU of each object with the prior that fits it best."""
    priors, steps = _shapes(ratios, aspect_ratios)
    away = (steps / 4 / image_size)[:, None]
    sides = np.minimum(objects[:, None], priors)
    sides = np.minimum(sides, (objects[:, None] + priors) / 2 - away).clip(0)
    both = sides.prod(axis=2)
    either = objects.prod(axis=1)[:, None] + priors.prod(axis=1) - both
    best: NDArray[np.float64] = (both / np.maximum(either, 1e-12)).max(axis=1)
    return best


def _shapes(
    ratios: PriorRatios, aspect_ratios: Sequence[Sequence[float]]
) -> tuple[Shapes, NDArray[np.float64]]:
    """Every prior's width and height as shares of the image, and its map's step in pixels."""
    shapes, steps = [], []
    sizes = ratios.sizes(100, len(aspect_ratios))
    for level, (smallest, largest, of_map) in enumerate(zip(*sizes, aspect_ratios, strict=True)):
        middle = (smallest * largest) ** 0.5
        of_level = [(smallest, smallest), (middle, middle)]
        for ratio in of_map:
            wide, narrow = smallest * ratio**0.5, smallest / ratio**0.5
            of_level += [(wide, narrow), (narrow, wide)]
        shapes += of_level
        steps += [_FINEST_STEP_PX * 2**level] * len(of_level)
    return np.array(shapes) / 100, np.array(steps, np.float64)
