"""Average precision of a ranked list of detections, in the reference's three versions.

Spec: ssd-data.md section 5; caffe-solver.md section 6.
Quirk: precision and recall are float32. `11point` compares recall with tenths in double, so a
    recall of exactly 7/10 or 9/10 counts as less than .7 or .9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import DataError, UsageError

Floats = NDArray[np.float32]

_LEAST_CHANGE = 1e-6


def precision_recall(
    scores: Floats, is_tp: NDArray[np.bool_], num_pos: int
) -> tuple[Floats, Floats]:
    """Precision and recall after each detection, best score first.

    Args:
        scores: [D]; equal scores stay in the given order.
        is_tp: [D], whether a detection found an object; otherwise it is a false alarm.
        num_pos: number of objects, positive.

    Returns:
        Precision [D] and recall [D], float32.

    Raises:
        DataError: more true positives than objects.
    """
    hits = np.cumsum(is_tp[np.argsort(-scores, kind="stable")])
    if len(hits) and hits[-1] > num_pos:
        raise DataError(f"{hits[-1]} true positives among {num_pos} objects")
    ranks = np.arange(1, len(hits) + 1, dtype=np.float32)
    found = hits.astype(np.float32)
    return (found / ranks).astype(np.float32), (found / np.float32(num_pos)).astype(np.float32)


def average_precision(
    scores: Floats, is_tp: NDArray[np.bool_], num_pos: int, *, version: str
) -> float:
    """Average precision of one class; see `precision_recall` for the arguments.

    Args:
        version: `11point` (VOC2007), `MaxIntegral` (VOC2012) or `Integral`.

    Returns:
        A fraction in [0, 1]; 0 without detections or without objects.

    Raises:
        UsageError: unknown version.
        DataError: more true positives than objects.
    """
    if version not in AP_VERSIONS:
        raise UsageError(f"unknown ap_version {version!r}; known: {', '.join(AP_VERSIONS)}")
    if num_pos == 0 or len(scores) == 0:
        return 0.0
    precision, recall = precision_recall(scores, is_tp, num_pos)
    return float(AP_VERSIONS[version](precision, recall))


def _eleven_point(precision: Floats, recall: Floats) -> np.float32:
    """Mean over the recalls 0, .1, ... 1 of the best precision at no lower recall."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    total = np.float32(0)
    for tenth in range(10, -1, -1):
        first = int(np.searchsorted(recall.astype(np.float64), tenth / 10))
        if first < len(recall):
            total += envelope[first]
    return np.float32(total / np.float32(11))


def _max_integral(precision: Floats, recall: Floats) -> np.float32:
    """Area under the curve made monotone; a step has the height of its left end, as in Caffe."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = _areas(envelope[:-1], np.diff(recall))
    return np.float32(_added(steps[::-1]) + recall[0] * envelope[0])


def _integral(precision: Floats, recall: Floats) -> np.float32:
    """Area under the curve as it is."""
    return _added(_areas(precision, np.diff(recall, prepend=np.float32(0))))


def _areas(height: Floats, width: Floats) -> Floats:
    """The areas of steps, without those that are too narrow to count."""
    counted = np.flatnonzero(width > _LEAST_CHANGE)
    areas: Floats = height[counted] * width[counted]
    return areas


def _added(terms: Floats) -> np.float32:
    """The sum, one after the other in float32 as the reference adds; `np.sum` adds in pairs."""
    return np.float32(np.cumsum(terms, dtype=np.float32)[-1]) if len(terms) else np.float32(0)


AP_VERSIONS: dict[str, Callable[[Floats, Floats], np.float32]] = {
    "11point": _eleven_point,
    "MaxIntegral": _max_integral,
    "Integral": _integral,
}
"""The versions a solver's `ap_version` can name."""
