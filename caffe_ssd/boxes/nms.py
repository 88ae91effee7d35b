"""Greedy non-maximum suppression, exact, for many lists of boxes at once.

Spec: ssd-layers.md sections 2.6 and 3 (step 3).

A list is ordered by falling score. Its boxes are looked at in order and kept unless they overlap a
kept one by more than the threshold. So first all pairs that overlap too much are found, with as few
array calls as the lists allow, and then all lists are settled together: whatever no undecided
better box covers is kept, and what it covers goes.

It runs on the host, in NumPy and in one thread: the lists are short, and calls are what costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Lists from this length on are compared as a matrix each, shorter ones pair by pair together.
_LONG = 40
# Up to so many boxes, all lists together are one matrix: most pairs are for nothing, but it takes
# the fewest calls.
_FEW = 64
# Boxes compared with each other at once, and pairs: small enough for the cache, and for NumPy to
# reuse its memory instead of asking the system for some each time.
_BLOCK = 128
_PAIRS = _BLOCK * _BLOCK
ADAPTIVE_ABOVE = 0.5

Boxes = NDArray[np.floating[Any]]
Marks = NDArray[np.bool_]
Indices = NDArray[np.intp]


@np.errstate(over="ignore", invalid="ignore")
def grouped_nms(
    boxes: Boxes,
    sizes: Sequence[int] | Indices,
    *,
    threshold: float,
    eta: float = 1.0,
    most: int | None = None,
) -> Marks:
    """Suppress overlapping boxes within each list.

    Args:
        boxes: [M, 4], the lists one behind the other, each by falling score.
        sizes: lengths of the lists; their sum is M.
        threshold: largest overlap that is kept.
        eta: below 1, the threshold is multiplied by it after every box kept, as long as it
            is above 0.5; each list begins with the given threshold.
        most: so many of the boxes kept of a list are wanted, the best ones; of the others some may
            be kept and some not. None: all are wanted.

    Returns:
        [M] bool: kept. Boxes too large for their areas to be numbers overlap nothing.
    """
    sizes = np.asarray(sizes, np.intp)
    sides = with_area(boxes)
    adaptive = eta < 1 and threshold > ADAPTIVE_ABOVE
    if len(boxes) <= _FEW and not adaptive:
        return _settle(_pairs_of_few(sides, sizes, threshold), len(boxes))
    keep = np.ones(len(boxes), np.bool_)
    covering = [] if adaptive else [_pairs_of_short(sides, sizes, threshold)]
    ends = np.cumsum(sizes)
    for number in np.flatnonzero(sizes > 1) if adaptive else np.flatnonzero(sizes >= _LONG):
        start, end = int(ends[number] - sizes[number]), int(ends[number])
        part = sides[:, start:end]
        if adaptive:
            keep[start:end] = _adaptive(part, threshold, eta)
        elif end - start > _BLOCK:
            keep[start:end] = _in_blocks(part, threshold, most)
        else:
            covering.append(_pairs_of_one(part, threshold) + start)
    if covering:
        keep &= _settle(np.concatenate(covering, 1), len(boxes))
    return keep


def _pairs_of_few(sides: Boxes, sizes: Indices, threshold: float) -> Indices:
    """Pairs (better, worse) of all lists that overlap too much, [2, K]."""
    pairs = _pairs_of_one(sides, threshold)
    if np.count_nonzero(sizes) <= 1 or not pairs.shape[1]:
        return pairs
    own = np.repeat(np.arange(len(sizes)), sizes)
    return pairs[:, own[pairs[0]] == own[pairs[1]]]


def _pairs_of_short(sides: Boxes, sizes: Indices, threshold: float) -> Indices:
    """The same of the short lists alone."""
    starts = np.cumsum(sizes) - sizes
    own = np.repeat(starts, sizes)  # where each box's list starts
    rank = np.arange(sides.shape[1]) - own
    rank[np.repeat(sizes >= _LONG, sizes)] = 0
    worse = np.repeat(np.arange(len(rank)), rank)
    better = np.arange(len(worse)) - np.repeat(np.cumsum(rank) - rank - own, rank)
    over = _overlap_more(sides[:, better], sides[:, worse], threshold)
    return np.stack([better[over], worse[over]])


def _pairs_of_one(sides: Boxes, threshold: float) -> Indices:
    """The same for one list, given as [5, K]."""
    over = _overlap_more(sides[:, :, None], sides[:, None], threshold)
    pairs = np.stack(np.divmod(over.reshape(-1).nonzero()[0], len(over)))
    return pairs[:, pairs[0] < pairs[1]]


def _settle(pairs: Indices, count: int) -> Marks:
    """Which boxes stay if the first of each pair, where it stays, removes the second."""
    gone = np.zeros(count, np.bool_)
    better, worse = pairs
    while len(better):
        doubtful = np.zeros(count, np.bool_)
        doubtful[worse] = True
        gone[worse[~doubtful[better]]] = True
        left = doubtful[better] & ~(gone[better] | gone[worse])
        better, worse = better[left], worse[left]
    kept: Marks = ~gone
    return kept


def _in_blocks(sides: Boxes, threshold: float, most: int | None) -> Marks:
    """One long list, [5, K] -> [K] bool: only kept boxes are compared with later ones."""
    keep = np.ones(sides.shape[1], np.bool_)
    for start in range(0, len(keep), _BLOCK):
        if most is not None and np.count_nonzero(keep[:start]) >= most:
            keep[start:] = False
            break
        left = np.flatnonzero(keep[start : start + _BLOCK]) + start
        settled = _settle(_pairs_of_one(sides[:, left], threshold), len(left))
        keep[left] = settled
        better = sides[:, left[settled], None]
        later = np.flatnonzero(keep[start + _BLOCK :]) + start + _BLOCK
        step = _PAIRS // max(1, better.shape[1])
        for worse in (later[at : at + step] for at in range(0, len(later), step)):
            over = _overlap_more(better, sides[:, None, worse], threshold)
            keep[worse] = ~over.any(0)
    return keep


def _adaptive(sides: Boxes, threshold: float, eta: float) -> Marks:
    """One list, [5, K] -> [K] bool; the threshold depends on how many were kept before."""
    limit = np.float32(threshold)
    worst = np.zeros(sides.shape[1], sides.dtype)
    keep = np.zeros(len(worst), np.bool_)
    for i in range(len(worst)):
        if not worst[i] <= limit:
            continue
        keep[i] = True
        np.fmax(worst[i + 1 :], overlap(sides[:, i, None], sides[:, i + 1 :]), out=worst[i + 1 :])
        if limit > ADAPTIVE_ABOVE:
            limit *= np.float32(eta)
    return keep


def _overlap_more(a: Boxes, b: Boxes, threshold: float) -> Marks:
    """Where the overlap, as `pairwise_iou` defines it, is above a threshold that is not negative.

    Args:
        a: [5, ...], xmin, ymin, xmax, ymax and area.
        b: [5, ...], broadcast with `a`.
        threshold: the threshold.
    """
    return overlap(a, b) > threshold


def overlap(a: Boxes, b: Boxes) -> Boxes:
    """Overlaps as `pairwise_iou` defines them, but for boxes apart anything up to 0.

    Args:
        a: [5, ...], see `with_area`.
        b: [5, ...], broadcast with `a`.
    """
    inter = np.minimum(a[2], b[2])
    inter -= np.maximum(a[0], b[0])
    np.maximum(inter, 0, out=inter)  # else two gaps would make an overlap
    height = np.minimum(a[3], b[3])
    height -= np.maximum(a[1], b[1])
    inter *= height
    union = np.add(a[4], b[4], out=height)
    union -= inter
    ratio: Boxes = np.divide(inter, union, out=inter)
    return ratio


def with_area(boxes: Boxes) -> Boxes:
    """The sides and the area, which is positive even where there is none: [M, 4] -> [5, M]."""
    sides = np.empty((5, len(boxes)), boxes.dtype)
    sides[:4] = boxes.T
    width, height = sides[2] - sides[0], sides[3] - sides[1]
    area = np.where((width < 0) | (height < 0), 0, width * height)
    np.maximum(area, np.finfo(boxes.dtype).tiny, out=sides[4])  # so that nothing is 0 / 0
    return sides
