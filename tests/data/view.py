"""Which part of an image a sample shows, recovered from what became of its boxes.

The reference's random samples were recorded with this rule applied to them; as it leaves some
samples open (few boxes, or all of them cut off), ours must be judged by the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

# Label and instance number of an object: its box in the whole image.
Original = Mapping[tuple[int, int], Sequence[float]]


class View(NamedTuple):
    """Size and upper left corner of the window, in sizes of the image; nan is unknown.

    `mirror` is 0, 1 or unknown, -1.
    """

    width: float = np.nan
    height: float = np.nan
    left: float = np.nan
    upper: float = np.nan
    mirror: int = -1


class _Line(NamedTuple):
    """new = slope * old + offset."""

    slope: float
    offset: float
    fits: bool
    points: int


def view(original: Original, rows: np.ndarray) -> View:
    """The view of one image.

    Args:
        original: the boxes before, [xmin, ymin, xmax, ymax].
        rows: the label rows after, [item, label, instance, xmin, ymin, xmax, ymax, difficult].
    """
    new = np.asarray(rows[:, 3:7], np.float64).reshape(-1, 4)
    old = np.array([original[int(row[1]), int(row[2])] for row in rows], float).reshape(-1, 4)
    horizontal, mirror = _horizontal(old[:, ::2], new[:, ::2])
    vertical = _line(old[:, 1::2], new[:, 1::2])
    height = upper = np.nan
    if vertical and vertical.fits and vertical.slope > 0:
        height, upper = 1 / vertical.slope, -vertical.offset / vertical.slope
    return View(horizontal[0], height, horizontal[1], upper, mirror)


def _line(old: np.ndarray, new: np.ndarray) -> _Line | None:
    """The line through the edges that were not cut off; None if they lie too close for one."""
    inside = (new > 0) & (new < 1)
    x, y = old[inside], new[inside]
    if len(x) < 2 or np.ptp(x) < 0.02:
        return None
    terms = np.stack([x, np.ones(len(x))], axis=1)
    (slope, offset), *_ = np.linalg.lstsq(terms, y, rcond=None)
    residual = np.abs(terms @ (slope, offset) - y).max()
    return _Line(slope, offset, bool(residual < 1e-4), len(x))


def _horizontal(old: np.ndarray, new: np.ndarray) -> tuple[tuple[float, float], int]:
    """(width, left) and mirror, from left and right edges [n, 2]."""
    size, left, mirror = np.nan, np.nan, -1
    plain, flipped = _line(old, new), _line(old, new[:, ::-1])
    if plain and flipped:
        is_plain, is_flipped = plain.fits and plain.slope > 0, flipped.fits and flipped.slope < 0
        one_box = plain.points == 2 and ((new > 0) & (new < 1)).all(axis=1).any()
        same_size = abs(plain.slope + flipped.slope) < 1e-4
        if is_plain != is_flipped and plain.points >= 3:
            line, mirror = (plain, 0) if is_plain else (flipped, 1)
            size = 1 / abs(line.slope)
            left = (mirror - line.offset) / line.slope
        elif is_plain and is_flipped and (one_box or same_size):
            size = 1 / plain.slope
    return (size, left), mirror if mirror >= 0 else _order(old.sum(axis=1), old, new)


def _order(twice_centre: np.ndarray, old: np.ndarray, new: np.ndarray) -> int:
    """Mirror by the order of the boxes from left to right: all pairs must agree."""
    signs = set()
    for i, j in combinations(range(len(old)), 2):
        before, after = twice_centre[i] - twice_centre[j], new[i].sum() - new[j].sum()
        apart = (old[i, 0] - old[j, 0]) * (old[i, 1] - old[j, 1]) > 0  # neither holds the other
        if apart and abs(after) > 1e-4:
            signs.add(float(np.sign(before * after)))
    return int(signs.pop() < 0) if len(signs) == 1 else -1
