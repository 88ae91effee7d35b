"""Average precision as the PASCAL VOC challenges count it.

Source: M. Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 88 (2010),
sections 4.2 and 4.4, and the development kits of 2007 (11 points) and 2010 to 2012 (area).

The rules: detections of a class are taken by falling score, equal ones as they stand in the file.
Each belongs to the object of its class and image that it overlaps most. If that overlap is at least
0.5 it finds the object, unless a better detection already did, which makes it a false alarm; if the
object is marked difficult the detection does not count at all. Anything else is a false alarm.
Difficult objects are not among those to be found. Boxes include their last pixel.

Quirk: the 11 recalls are those of MATLAB's 0:0.1:1, whose fourth is 3 * 0.1 and thereby a little
    more than 3/10: a recall of exactly 3/10 does not reach it.
The AP of a class without objects is not defined here, and the mean leaves it out; the reference
counts it as 0.

Letters: G objects, D detections, P pairs of a detection and an object of its image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import Floats, Found, Indices, TestSet

Mask = NDArray[np.bool_]

_TENTHS = [k * 0.1 if k < 5 else 1 - (10 - k) * 0.1 for k in range(11)]


def score_voc(
    test_set: TestSet, found: Found, *, year: str, min_overlap: float = 0.5
) -> ProtocolScore:
    """Score detections by a VOC protocol.

    Args:
        test_set: the truth.
        found: the detections.
        year: `2007` (mean of 11 precisions) or `2012` (area under the curve; 2010 and 2011 alike).
        min_overlap: least overlap of a detection that finds an object.

    Raises:
        UsageError: another year.
    """
    if year not in _RULES:
        raise UsageError(f"unknown year of VOC {year!r}; known: {', '.join(_RULES)}")
    values = {}
    for index, name in enumerate(test_set.categories):
        objects = _objects_of(test_set, index)
        precision, recall = _curve(objects, _ranked(found, index), min_overlap)
        num_pos = int((~objects.is_difficult).sum())
        values[name] = _RULES[year](precision, recall) if num_pos else float("nan")
    defined = [value for value in values.values() if not np.isnan(value)]
    title = f"VOC{year} protocol"
    mean = float(np.mean(defined)) if defined else float("nan")
    return ProtocolScore(title=title, numbers={f"{title} mAP": mean}, per_class={"AP": values})


@dataclass(frozen=True, kw_only=True)
class _ClassObjects:
    """Objects of a class, ordered by image; those of image i begin at `first[i]`."""

    boxes_px: Floats
    is_difficult: Mask
    first: Indices
    count: Indices


def _objects_of(test_set: TestSet, category: int) -> _ClassObjects:
    objects = test_set.objects
    mine = np.flatnonzero(objects.category == category)
    mine = mine[objects.image[mine].argsort(kind="stable")]
    count = np.bincount(objects.image[mine], minlength=len(test_set.images))
    return _ClassObjects(
        boxes_px=objects.boxes_px[mine],
        is_difficult=objects.is_difficult[mine],
        first=count.cumsum() - count,
        count=count,
    )


def _ranked(found: Found, category: int) -> tuple[Indices, Floats]:
    """Images [D] and boxes [D, 4] of a class's detections, best score first."""
    mine = np.flatnonzero(found.category == category)
    mine = mine[(-found.scores[mine]).argsort(kind="stable")]
    return found.image[mine], found.boxes_px[mine]


def _curve(
    objects: _ClassObjects, ranked: tuple[Indices, Floats], min_overlap: float
) -> tuple[Floats, Floats]:
    """Precision and recall after each detection that counts."""
    images, boxes_px = ranked
    overlap, best = _best_objects(objects, images, boxes_px)
    hit = overlap >= min_overlap
    neutral = np.zeros_like(hit)
    neutral[hit] = objects.is_difficult[best[hit]]
    hit &= ~neutral
    places = np.flatnonzero(hit)
    _, first = np.unique(best[places], return_index=True)
    is_tp = np.zeros_like(hit)
    is_tp[places[first]] = True
    tp = is_tp[~neutral].cumsum()
    num_pos = int((~objects.is_difficult).sum())
    return tp / np.arange(1, len(tp) + 1), tp / max(num_pos, 1)


def _best_objects(
    objects: _ClassObjects, images: Indices, boxes_px: Floats
) -> tuple[Floats, Indices]:
    """Largest overlap of each detection [D], and with which object [D], the first one on ties."""
    num_pairs = objects.count[images]  # [D]
    overlap, best = np.zeros(len(images)), np.zeros(len(images), np.int64)
    detection = np.repeat(np.arange(len(images)), num_pairs)  # [P]
    start = num_pairs.cumsum() - num_pairs
    object_ = (objects.first[images] - start)[detection] + np.arange(len(detection))
    iou = _iou_px(boxes_px[detection], objects.boxes_px[object_])
    order = np.lexsort((object_, -iou, detection))
    with_pairs = num_pairs > 0
    top = order[start[with_pairs]]
    overlap[with_pairs], best[with_pairs] = iou[top], object_[top]
    return overlap, best


def _iou_px(a: Floats, b: Floats) -> Floats:
    """Overlaps of boxes [P, 4], last pixels included."""
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    common = np.maximum(high - low + 1, 0).prod(axis=1)
    areas = (a[:, 2:] + 1).prod(axis=1) + (b[:, 2:] + 1).prod(axis=1)
    iou: Floats = common / (areas - common)
    return iou


def _eleven_points(precision: Floats, recall: Floats) -> float:
    best = [precision[recall >= tenth].max(initial=0) for tenth in _TENTHS]
    return float(sum(best) / 11)


def _area(precision: Floats, recall: Floats) -> float:
    """Under the curve made monotone from the right, at every step of the recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * envelope).sum())


_RULES: dict[str, Callable[[Floats, Floats], float]] = {"2007": _eleven_points, "2012": _area}
