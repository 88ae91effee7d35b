"""AP by the size of objects.

Objects outside of a range of sizes do not count, as in COCO's protocol: what finds one of them
counts neither for nor against the net, nor does a detection of such a size that finds nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.boxes.average_precision import average_precision
from caffe_ssd.report.evaluation import MIN_OVERLAP, Evaluation, ImagePairs

_COCO_PX = (32.0**2, 96.0**2)
_SHARES = (0.01, 0.1)
_LEAST_SIDE_PX = 256  # of pictures for which COCO's pixels make sense


@dataclass(frozen=True, kw_only=True)
class SizeRange:
    """Objects of some sizes.

    Args:
        name: for people.
        low, high: of the area, low <= area < high.
        num_objects: that count.
        mean_ap: over the classes that have such objects; nan without any.
    """

    name: str
    low: float
    high: float
    num_objects: int
    mean_ap: float


@dataclass(frozen=True, kw_only=True)
class AreaRule:
    """What small, medium and large mean.

    Args:
        is_share: areas are shares of the picture rather than pixels.
        limits: of medium.
        text: the same in words.
    """

    is_share: bool
    limits: tuple[float, float]
    text: str


def area_rule(evaluation: Evaluation) -> AreaRule:
    """COCO's pixels, or shares where pictures are too small for them."""
    images = evaluation.test_set.images
    side = float(np.median([min(image.height, image.width) for image in images]))
    if side >= _LEAST_SIDE_PX:
        text = "COCO's limits: small below 32², large from 96² pixels of the original picture on"
        return AreaRule(is_share=False, limits=_COCO_PX, text=text)
    text = (
        f"small below 1 %, large from 10 % of the picture's area on (COCO's limits in pixels are "
        f"made for larger pictures than these, whose shorter side is {side:.0f} pixels)"
    )
    return AreaRule(is_share=True, limits=_SHARES, text=text)


def ap_by_size(evaluation: Evaluation, rule: AreaRule, version: str) -> list[SizeRange]:
    """Mean AP of small, medium and large objects.

    Args:
        evaluation: what was found.
        rule: what these words mean.
        version: of AP.
    """
    found_area, area = _areas(evaluation, rule)
    low, high = rule.limits
    ranges = []
    for name, start, end in (
        ("small", -1.0, low),
        ("medium", low, high),
        ("large", high, math.inf),
    ):
        is_mine = (area >= start) & (area < end)
        if not evaluation.counts_difficult:
            is_mine &= ~evaluation.test_set.objects.is_difficult
        is_tp, counts = _matched(evaluation, is_mine, (found_area >= start) & (found_area < end))
        values = []
        for category in range(len(evaluation.names)):
            num_pos = int((is_mine & (evaluation.test_set.objects.category == category)).sum())
            mine = counts & (evaluation.found.category == category)
            scores = evaluation.found.scores[mine].astype(np.float32)
            if num_pos:
                ap = average_precision(scores, is_tp[mine], num_pos, version=version)
                values.append(ap)
        mean = float(np.mean(values)) if values else math.nan
        ranges.append(
            SizeRange(name=name, low=start, high=end, num_objects=int(is_mine.sum()), mean_ap=mean)
        )
    return ranges


def _areas(
    evaluation: Evaluation, rule: AreaRule
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas of the detections and of the objects."""
    objects, found = evaluation.test_set.objects, evaluation.found
    areas = found.boxes_px[:, 2:].prod(axis=1), objects.boxes_px[:, 2:].prod(axis=1)
    if not rule.is_share:
        return areas
    whole = np.array([image.height * image.width for image in evaluation.test_set.images], float)
    return areas[0] / whole[found.image], areas[1] / whole[objects.image]


def _matched(
    evaluation: Evaluation, is_mine: NDArray[np.bool_], is_sized: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections find an object of the range, and which count at all. [D] each."""
    is_tp = np.zeros(len(evaluation.found), np.bool_)
    counts = is_sized.copy()
    for pairs in evaluation.pairs():
        _match_image(evaluation, pairs, is_mine, is_tp, counts)
    return is_tp, counts


def _match_image(
    evaluation: Evaluation,
    pairs: ImagePairs,
    is_mine: NDArray[np.bool_],
    is_tp: NDArray[np.bool_],
    counts: NDArray[np.bool_],
) -> None:
    own = evaluation.found.category[pairs.found]
    truth = evaluation.test_set.objects.category[pairs.objects]
    mine = is_mine[pairs.objects]
    is_hit = (pairs.overlap >= MIN_OVERLAP) & (own[:, None] == truth)
    is_free = np.ones(len(truth), np.bool_)
    for place in np.flatnonzero(is_hit.any(axis=1)).tolist():
        for wanted in (mine, ~mine):
            hits = is_hit[place] & is_free & wanted
            if hits.any():
                best = int(np.where(hits, pairs.overlap[place], -1).argmax())
                is_free[best] = False
                is_tp[pairs.found[place]] = counts[pairs.found[place]] = bool(mine[best])
                break
