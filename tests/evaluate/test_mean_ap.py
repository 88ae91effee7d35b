"""Mean average precision: a whole recorded test set, and the corner cases of the accumulator."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.evaluate.mean_ap import MeanAPAccumulator
from caffe_ssd.evaluate.results import read_name_sizes
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from tests.support.golden import GOLDEN

BATCH = 8


def evaluated(detections, label, *, version, sizes=None):
    """Score a test set in batches, as a test net does."""
    layer = DetectionEvaluate(num_classes=4, evaluate_difficult_gt=False, sizes=sizes)
    accumulator = MeanAPAccumulator(version)
    for start in range(0, 72, BATCH):
        parts = []
        for rows in (detections, label):
            part = rows[(rows[:, 0] >= start) & (rows[:, 0] < start + BATCH)].copy()
            part[:, 0] -= start
            parts.append(torch.from_numpy(part)[None, None])
        accumulator.update(layer(*parts).numpy())
    return accumulator.compute()


@pytest.mark.parametrize("version", ["11point", "MaxIntegral", "Integral"])
@pytest.mark.parametrize("mode", ["plain", "name_size_file"])
def test_recorded_test_set(mode, version):
    folder = GOLDEN / "eval"
    recorded = np.load(folder / "detections.npz")
    want = json.loads((folder / "eval.json").read_text())["results"][f"{mode}/{version}"]
    sizes = read_name_sizes(folder / "test_name_size.txt") if mode == "name_size_file" else None
    have = evaluated(recorded["detection_out"], recorded["label"], version=version, sizes=sizes)
    assert have.value == pytest.approx(want["mAP"], abs=1e-6)
    for label, value in have.per_class.items():
        assert value == pytest.approx(want[f"class{label}"], abs=1e-6)
    assert have.without_detections == ()


def top(*rows):
    return np.asarray(rows, np.float32)[None, None]


def test_classes_without_objects_or_detections_count_as_zero():
    accumulator = MeanAPAccumulator()
    accumulator.update(top([-1, 3, 1, -1, -1], [-1, 1, 2, -1, -1], [-1, 2, 0, -1, -1]))
    accumulator.update(top([-1, 1, 0, -1, -1], [0, 1, 0.9, 1, 0], [0, 2, 0.9, 0, 1]))
    result = accumulator.compute()
    assert result.per_class == {1: 0.5, 2: 0.0, 3: 0.0}
    assert result.value == pytest.approx(0.5 / 3)
    assert result.without_detections == (3,)
    assert result.any_detections


def test_neutral_rows_are_ignored():
    accumulator = MeanAPAccumulator()
    accumulator.update(top([-1, 1, 1, -1, -1], [0, 1, 0.9, 0, 0], [0, 1, 0.1, 1, 0]))
    assert accumulator.compute().value == 1


def test_equal_scores_keep_their_order_of_arrival():
    accumulator = MeanAPAccumulator()
    accumulator.update(top([-1, 1, 2, -1, -1], [0, 1, 0.5, 1, 0]))
    accumulator.update(top([0, 1, 0.5, 0, 1], [1, 1, 0.5, 1, 0]))
    assert accumulator.compute().value == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_nothing_at_all_is_zero():
    result = MeanAPAccumulator().compute()
    assert result.value == 0
    assert not result.any_detections


def test_rows_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"must have 5 columns.*got shape \(2, 7\)"):
        MeanAPAccumulator().update(np.zeros((2, 7)))


def test_an_unknown_version_is_refused():
    with pytest.raises(UsageError, match="unknown ap_version '12point'; known: 11point, MaxInt"):
        MeanAPAccumulator("12point")
