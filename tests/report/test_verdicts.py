"""Right, doubled, confused, misplaced, false and missed; thresholds; AP by size."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from caffe_ssd.boxes.average_precision import average_precision
from caffe_ssd.evaluate.mean_ap import JudgedClass
from caffe_ssd.report.evaluation import best_point, overlaps
from caffe_ssd.report.sizes import ap_by_size, area_rule
from caffe_ssd.report.verdicts import Kind, judge
from tests.report.made import made

BOX = (10.0, 10.0, 40.0, 40.0)
FAR = (200.0, 100.0, 40.0, 40.0)


def shifted(x: float) -> tuple[float, float, float, float]:
    """BOX, to the right: the overlap is (40 - x) / (40 + x)."""
    return (BOX[0] + x, *BOX[1:])


def test_every_kind_of_verdict() -> None:
    truth = [
        (0, 0, BOX, False),
        (0, 0, FAR, False),
        (1, 1, BOX, False),
        (1, 0, FAR, True),
    ]
    found = [
        (0, 0, 0.9, shifted(2)),  # right
        (0, 0, 0.8, BOX),  # the better overlap comes too late
        (0, 1, 0.7, (*FAR[:3], 39.0)),  # b on an a that nobody finds
        (0, 0, 0.6, shifted(30)),  # overlap 1/7
        (0, 0, 0.5, (300.0, 200.0, 20.0, 20.0)),  # nothing there
        (1, 0, 0.9, BOX),  # a on a b that is found below
        (1, 1, 0.8, BOX),
        (1, 0, 0.7, FAR),  # difficult
        (1, 1, 0.1, FAR),  # below the threshold
    ]
    verdicts = judge(made(truth, found), [0.5, 0.5])
    kinds = [(each.found, each.kind, each.object) for each in verdicts.found]
    assert kinds == [
        (0, Kind.RIGHT, 0),
        (1, Kind.DOUBLED, 0),
        (2, Kind.CONFUSED, 1),
        (3, Kind.MISPLACED, 0),
        (4, Kind.NOTHING, -1),
        (5, Kind.CONFUSED, 2),
        (6, Kind.RIGHT, 2),
        (7, Kind.IGNORED, 3),
    ]
    assert verdicts.found[3].overlap == pytest.approx(1 / 7)
    assert [(each.object, each.best_found) for each in verdicts.missed] == [(1, -1)]
    #                                    a  b  missed
    assert verdicts.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [4, 0, 0]]


def test_rows_of_the_matrix_add_up_to_the_objects() -> None:
    rng = np.random.default_rng(3)
    truth, found = [], []
    for image in range(6):
        for _ in range(5):
            box = (*rng.uniform(0, 200, 2), *rng.uniform(20, 90, 2))
            truth.append((image, int(rng.integers(3)), box, bool(rng.random() < 0.2)))
            for _ in range(3):
                near = tuple(np.array(box) + rng.normal(0, 8, 4))
                found.append((image, int(rng.integers(3)), float(rng.random()), near))
    evaluation = made(truth, found, num_classes=3, num_images=6)
    for threshold in (0.0, 0.4, 0.95):
        verdicts = judge(evaluation, [threshold] * 3)
        counted = [sum(c == k and not d for _, c, _, d in truth) for k in range(3)]
        difficult = sum(d for *_, d in truth)
        assert verdicts.confusion[:-1].sum(axis=1).tolist() == counted
        counts = verdicts.counts()
        num_kept = sum(score >= threshold for _, _, score, _ in found)
        assert len(verdicts.found) == num_kept
        assert verdicts.confusion[:, :-1].sum() == num_kept - counts[Kind.IGNORED]
        assert np.trace(verdicts.confusion[:-1, :-1]) == counts[Kind.RIGHT]
        assert counts[Kind.RIGHT] + len(verdicts.missed) == len(truth) - difficult


def test_missed_objects_tell_of_what_was_too_uncertain() -> None:
    found = [(0, 0, 0.3, shifted(1)), (0, 0, 0.2, BOX), (0, 1, 0.45, BOX)]
    verdicts = judge(made([(0, 0, BOX, False)], found), [0.5, 0.5])
    assert [(each.object, each.best_found) for each in verdicts.missed] == [(0, 0)]


def test_overlaps_of_boxes() -> None:
    a = np.array([BOX, FAR, (0, 0, 0, 0)], np.float64)
    assert overlaps(a, a).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert overlaps(a[:1], np.array([shifted(20)]))[0, 0] == pytest.approx(1 / 3)
    assert overlaps(a, np.empty((0, 4))).shape == (3, 0)


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        size = int(rng.integers(1, 30))
        scores = (rng.integers(0, 10, size) / 10).astype(np.float32)  # many are equal
        is_tp = rng.random(size) < 0.5
        num_pos = int(is_tp.sum()) + int(rng.integers(1, 5))
        best = best_point(JudgedClass(scores=scores, is_tp=is_tp, num_pos=num_pos))
        by_hand = {}
        for threshold in scores.tolist():
            kept = scores >= threshold
            by_hand[threshold] = 2 * is_tp[kept].sum() / (kept.sum() + num_pos)
        assert best.f1 == pytest.approx(max(by_hand.values()), abs=1e-6)
        assert by_hand[best.threshold] == pytest.approx(best.f1, abs=1e-6)
        kept = scores >= best.threshold
        assert best.precision == pytest.approx(is_tp[kept].mean())
        assert best.recall == pytest.approx(is_tp[kept].sum() / num_pos)


def test_no_threshold_without_detections() -> None:
    nothing = JudgedClass(scores=np.empty(0, np.float32), is_tp=np.empty(0, bool), num_pos=3)
    assert math.isnan(best_point(nothing).f1)
    one = JudgedClass(scores=np.ones(1, np.float32), is_tp=np.zeros(1, bool), num_pos=0)
    assert math.isnan(best_point(one).f1)


def square(side: float, x: float = 5.0) -> tuple[float, float, float, float]:
    return (x, 5.0, side, side)


def test_ap_by_size_counts_only_its_own() -> None:
    truth = [(0, 0, square(20), False), (0, 0, square(60, 100), False), (1, 0, square(200), False)]
    found = [
        (0, 0, 0.9, square(20)),
        (0, 0, 0.8, square(60, 300)),  # false, of medium size
        (0, 0, 0.7, square(60, 100)),
        (1, 0, 0.6, square(30)),  # false, small
    ]
    evaluation = made(truth, found, num_classes=1)
    rule = area_rule(evaluation)
    assert not rule.is_share
    small, medium, large = ap_by_size(evaluation, rule, "Integral")
    assert (small.num_objects, medium.num_objects, large.num_objects) == (1, 1, 1)
    assert (small.mean_ap, medium.mean_ap, large.mean_ap) == (1.0, 0.5, 0.0)


def test_sizes_are_shares_in_small_pictures() -> None:
    truth = [(0, 0, square(3), False), (0, 0, square(40), False)]
    evaluation = made(truth, [(0, 0, 0.5, square(3))], num_classes=1, size=(96, 96))
    rule = area_rule(evaluation)
    assert rule.is_share
    assert "1 %" in rule.text
    ranges = ap_by_size(evaluation, rule, "11point")
    assert [each.num_objects for each in ranges] == [1, 0, 1]
    assert ranges[0].mean_ap == 1.0
    assert math.isnan(ranges[1].mean_ap)
    for before, after in pairwise(ranges):
        assert before.high == after.low


def test_difficult_objects_count_only_where_the_net_says_so() -> None:
    truth = [(0, 0, square(20), True), (0, 0, square(20, 100), False)]
    found = [(0, 0, 0.9, square(20)), (0, 0, 0.8, square(20, 100))]
    for counts, num in ((False, 1), (True, 2)):
        evaluation = made(truth, found, num_classes=1, counts_difficult=counts)
        small = ap_by_size(evaluation, area_rule(evaluation), "Integral")[0]
        assert (small.num_objects, small.mean_ap) == (num, 1.0)
        assert len(judge(evaluation, [0.5]).of(Kind.RIGHT)) == num


def test_one_size_for_all_is_the_whole_ap() -> None:
    rng = np.random.default_rng(1)
    truth, found, is_tp, scores = [], [], [], []
    for i in range(8):
        truth.append((0, 0, square(10, 40.0 * i), False))
        is_hit = bool(rng.random() < 0.6)
        scores.append(float(rng.random()))
        is_tp.append(is_hit)
        found.append((0, 0, scores[-1], square(10, 40.0 * i + (0 if is_hit else 20))))
    evaluation = made(truth, found, num_classes=1)
    small = ap_by_size(evaluation, area_rule(evaluation), "MaxIntegral")[0]
    ap = average_precision(np.float32(scores), np.array(is_tp), 8, version="MaxIntegral")
    assert small.mean_ap == ap
