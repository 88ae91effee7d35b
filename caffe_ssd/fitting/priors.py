"""Prior sizes that fit the objects of a data set.

A prior learns from the objects that it overlaps by half or more (IoU). Here objects and priors are
compared by shape alone, as if each object stood on a prior's centre.
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
_FINEST = ((2, 4), (3, 6), (4, 8), (5, 10), (6, 12), (7, 15), (10, 20), (15, 30), (20, 35))
_HIGHEST = (40, 50, 60, 70, 80, 90)


def fitting_ratios(objects: Shapes, aspect_ratios: Sequence[Sequence[float]]) -> PriorRatios:
    """The sizes under which the objects' mean IoU with their best prior is the largest.

    Args:
        objects: shapes of the training objects.
        aspect_ratios: of each map, without 1 and without inverses.
    """
    candidates = [
        PriorRatios(
            first=first, lowest=first[1], highest=max(highest, first[1] + len(aspect_ratios))
        )
        for first, highest in product(_FINEST, _HIGHEST)
    ]
    means = [float(best_overlaps(objects, each, aspect_ratios).mean()) for each in candidates]
    return candidates[int(np.argmax(means))]


def best_overlaps(
    objects: Shapes, ratios: PriorRatios, aspect_ratios: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """The IoU of each object with the prior that fits its shape best."""
    priors = _shapes(ratios, aspect_ratios)
    both = np.minimum(objects[:, None], priors).prod(axis=2)
    either = objects.prod(axis=1)[:, None] + priors.prod(axis=1) - both
    best: NDArray[np.float64] = (both / np.maximum(either, 1e-12)).max(axis=1)
    return best


def _shapes(ratios: PriorRatios, aspect_ratios: Sequence[Sequence[float]]) -> Shapes:
    """Every prior's width and height, as shares of the image."""
    shapes = []
    sizes = ratios.sizes(100, len(aspect_ratios))
    for smallest, largest, of_map in zip(*sizes, aspect_ratios, strict=True):
        middle = (smallest * largest) ** 0.5
        shapes += [(smallest, smallest), (middle, middle)]
        for ratio in of_map:
            wide, narrow = smallest * ratio**0.5, smallest / ratio**0.5
            shapes += [(wide, narrow), (narrow, wide)]
    return np.array(shapes) / 100
