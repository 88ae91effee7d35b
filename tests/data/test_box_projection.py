"""Box arithmetic against naive loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.data.box_projection import (
    coverage,
    crop_annotations,
    emit_rule,
    jaccard,
    mirror_boxes,
    normalised,
    project,
)
from caffe_ssd.data.samples import Annotations
from caffe_ssd.proto.caffe_pb2 import EmitConstraint

coordinates = st.floats(-0.5, 1.5, width=32)
boxes_strategy = st.lists(st.tuples(*[coordinates] * 4), min_size=1, max_size=5)
crops = st.tuples(*[st.floats(-3, 0.5, width=32)] * 2, *[st.floats(0.625, 4, width=32)] * 2)


def naive_area(box):
    xmin, ymin, xmax, ymax = box
    return 0.0 if xmax < xmin or ymax < ymin else (xmax - xmin) * (ymax - ymin)


def naive_intersection(a, b):
    if b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]:
        return (0.0, 0.0, 0.0, 0.0)
    return (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))


def naive_coverage(a, b):
    common = naive_area(naive_intersection(a, b))
    return common / naive_area(a) if common > 0 else 0.0


def naive_jaccard(a, b):
    common = naive_intersection(a, b)
    iw, ih = common[2] - common[0], common[3] - common[1]
    if iw <= 0 or ih <= 0:
        return 0.0
    return iw * ih / (naive_area(a) + naive_area(b) - iw * ih)


def random_boxes(count, seed=0):
    corners = np.random.default_rng(seed).uniform(-0.2, 1.2, (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1)], axis=1).astype(np.float32)


def test_measures_match_naive_loops():
    a, b = random_boxes(9, 1), random_boxes(7, 2)
    pairs = [(x.astype(np.float64), y.astype(np.float64)) for x in a for y in b]
    for fast, naive in ((coverage, naive_coverage), (jaccard, naive_jaccard)):
        expected = np.array([naive(x, y) for x, y in pairs]).reshape(9, 7)
        np.testing.assert_allclose(fast(a[:, None], b[None]), expected, rtol=1e-5, atol=1e-6)


@given(boxes=boxes_strategy, crop=crops)
def test_projection_keeps_what_has_an_area_inside(boxes, crop):
    boxes, crop = np.array(boxes, np.float32), np.array(crop, np.float32)
    kept, projected = project(crop, boxes)
    assert projected.dtype == np.float32
    for keep, box, new in zip(kept, boxes, projected, strict=True):
        if keep:
            assert 0 <= new[0] < new[2] <= 1
            assert 0 <= new[1] < new[3] <= 1
            assert naive_area(naive_intersection(crop, box)) > 0


def test_projection_of_a_known_box():
    boxes = np.array([[0.25, 0.3, 0.75, 0.5], [0.5, 0.1, 0.9, 0.2]], np.float32)
    kept, projected = project(np.float32([0.5, 0.2, 1.0, 0.6]), boxes)
    assert kept.tolist() == [True, False]  # the second one only touches the crop
    np.testing.assert_allclose(projected[0], [0, 0.25, 0.5, 0.75], atol=1e-6)


def test_mirror_twice_is_the_same():
    boxes = random_boxes(5)
    before = boxes.copy()
    np.testing.assert_allclose(mirror_boxes(mirror_boxes(boxes)), boxes, atol=1e-6)
    np.testing.assert_allclose(mirror_boxes(boxes)[:, [2, 0]], 1 - boxes[:, [0, 2]])
    np.testing.assert_array_equal(boxes, before)


def annotations(boxes):
    count = len(boxes)
    return Annotations(
        boxes=np.array(boxes, np.float32),
        labels=np.arange(count, dtype=np.int32),
        instance_ids=np.arange(count, dtype=np.int32) + 10,
        difficult=np.arange(count) % 2 == 0,
    )


CROP = np.float32([0.25, 0.5, 0.75, 1.0])
# Centre on the border; centre inside; a third inside; half inside.
OBJECTS = [
    (0.15, 0.6, 0.35, 0.8),
    (0.3, 0.6, 0.5, 0.8),
    (0.05, 0.5, 0.35, 1.0),
    (0.0, 0.5, 0.5, 1.0),
]


@pytest.mark.parametrize(
    ("constraint", "labels"),
    [
        (None, [0, 1, 2, 3]),
        (EmitConstraint(), [0, 1, 3]),
        (EmitConstraint(emit_type=EmitConstraint.MIN_OVERLAP), [0, 1, 2, 3]),
        (EmitConstraint(emit_type=EmitConstraint.MIN_OVERLAP, emit_overlap=0.4), [0, 1, 3]),
        # The bound itself is not enough.
        (EmitConstraint(emit_type=EmitConstraint.MIN_OVERLAP, emit_overlap=0.5), [1]),
    ],
)
def test_emit_constraint(constraint, labels):
    rule = None if constraint is None else emit_rule(constraint)
    found = crop_annotations(annotations(OBJECTS), CROP, emit=rule)
    assert found.labels.tolist() == labels
    assert found.instance_ids.tolist() == [10 + label for label in labels]
    assert found.difficult.tolist() == [label % 2 == 0 for label in labels]


def test_normalised():
    box = normalised((-3, 4, 6, 10), height=20, width=30)
    np.testing.assert_allclose(box, [-0.1, 0.2, 0.2, 0.5], rtol=1e-6)
    assert box.dtype == np.float32
