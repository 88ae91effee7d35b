"""Average precision: values the reference printed."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.boxes.average_precision import average_precision, precision_recall
from caffe_ssd.errors import DataError, UsageError

SCORES = np.array([0.95, 0.9, 0.85, 0.8, 0.6, 0.6, 0.3], np.float32)
IS_TP = np.array([1, 0, 1, 1, 0, 1, 0], bool)
LONG = np.array([1, 1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 1], bool)


@pytest.mark.parametrize(
    ("version", "short", "long"),
    [
        ("Integral", 0.3083333, 0.7842749),
        ("MaxIntegral", 0.3166667, 0.8),
        ("11point", 0.3787879, 0.7386364),  # double arithmetic would give .8181818
    ],
)
def test_vectors_of_the_spec(version, short, long):
    assert average_precision(SCORES, IS_TP, 10, version=version) == pytest.approx(short, abs=1e-6)
    scores = np.arange(12, 0, -1).astype(np.float32)
    assert average_precision(scores, LONG, 10, version=version) == pytest.approx(long, abs=1e-6)


@pytest.mark.parametrize("version", ["Integral", "MaxIntegral", "11point"])
def test_order_comes_from_the_scores_only_where_they_differ(version):
    order = np.array([6, 3, 4, 0, 5, 2, 1])  # 4 stays before 5, which has the same score
    have = average_precision(SCORES[order], IS_TP[order], 10, version=version)
    assert have == average_precision(SCORES, IS_TP, 10, version=version)


def test_nothing_detected_or_nothing_to_detect_is_zero():
    assert average_precision(SCORES[:0], IS_TP[:0], 3, version="11point") == 0
    assert average_precision(SCORES, np.zeros(7, bool), 0, version="11point") == 0


def test_more_hits_than_objects_are_refused():
    with pytest.raises(DataError, match="4 true positives among 3 objects"):
        average_precision(SCORES, IS_TP, 3, version="Integral")


def test_an_unknown_version_is_refused():
    with pytest.raises(UsageError, match="unknown ap_version 'Area'"):
        average_precision(SCORES, IS_TP, 10, version="Area")


@pytest.mark.parametrize("version", ["Integral", "MaxIntegral"])
def test_areas_are_added_one_by_one_in_float32(version):
    rng = np.random.default_rng(3)
    scores, is_tp = rng.random(400).astype(np.float32), rng.random(400) < 0.3
    precision, recall = precision_recall(scores, is_tp, 150)
    height = precision if version == "Integral" else np.maximum.accumulate(precision[::-1])[::-1]
    steps = [height[0] * recall[0]]
    shift = 0 if version == "Integral" else 1
    for i in range(1, 400):
        if recall[i] - recall[i - 1] > 1e-6:
            steps.append(height[i - shift] * (recall[i] - recall[i - 1]))
    if version == "MaxIntegral":  # the reference goes from the end to the beginning
        steps.reverse()
    want = np.float32(0)
    for step in steps:
        want += step
    assert average_precision(scores, is_tp, 150, version=version) == float(want)
