"""Matching against the reference's procedure written as loops, ties included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe_ssd.boxes import matching
from caffe_ssd.boxes.matching import match_priors
from tests.boxes.naive import naive_match, random_boxes

BOXES = torch.tensor(
    [
        [0, 0, 0.4, 0.4],
        [0.1, 0.1, 0.5, 0.5],
        [0.5, 0.5, 0.9, 0.9],
        [0.55, 0.5, 0.95, 0.9],
        [0, 0.6, 0.2, 0.8],
        [0.12, 0.1, 0.52, 0.5],
    ]
)
GTS = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.12, 0.5, 0.5], [0, 0.7, 0.1, 0.9]])


def match(boxes, gts, **rule):
    defaults = {
        "per_prediction": True,
        "overlap_threshold": 0.35,
        "ignore_cross_boundary": False,
    }
    return match_priors(boxes, gts, **(defaults | rule))


def test_the_example_of_the_spec():
    found = match(BOXES, GTS[None])
    assert found.gt.tolist() == [[0, 0, -1, -1, 2, 1]]
    want = torch.tensor([[0.391304, 1, 0, 0, 0.2, 0.861575]])
    torch.testing.assert_close(found.overlap, want, rtol=0, atol=1e-6)
    assert match(BOXES, GTS[None], overlap_threshold=0.5).gt[0, 0] == -1
    assert match(BOXES, GTS[None], per_prediction=False).gt.tolist() == [[-1, 0, -1, -1, 2, 1]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_boxes=st.integers(1, 25),
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    per_prediction=st.booleans(),
    shared=st.booleans(),
)
def test_matches_the_naive_procedure(seed, num_boxes, counts, per_prediction, shared):
    # One decimal: many boxes coincide, so that ties decide.
    boxes = random_boxes(len(counts), num_boxes, seed=seed, decimals=1)
    gts = random_boxes(len(counts), max(counts), seed=seed + 1, decimals=1)
    for image, count in enumerate(counts):
        gts[image, count:] = 0
    found = match(boxes[0] if shared else boxes, gts, per_prediction=per_prediction)
    for image, count in enumerate(counts):
        want, overlap = naive_match(
            boxes[0 if shared else image],
            gts[image, :count],
            per_prediction=per_prediction,
            threshold=0.35,
        )
        assert found.gt[image].tolist() == want
        torch.testing.assert_close(found.overlap[image], torch.tensor(overlap))


def test_boxes_across_the_boundary_are_ignored():
    boxes = BOXES.clone()
    boxes[1, 0] = -0.1
    found = match(boxes, GTS[None], ignore_cross_boundary=True)
    want, _ = naive_match(boxes, GTS, per_prediction=True, threshold=0.35, ignore_cross=True)
    assert found.gt.tolist() == [want]
    assert found.gt[0, 1] == matching.IGNORED
    assert found.overlap[0, 1] == 0


def test_images_are_split_into_parts_without_effect(monkeypatch):
    boxes, gts = random_boxes(50, seed=3), random_boxes(5, 4, seed=4)
    whole = match(boxes, gts)
    monkeypatch.setattr(matching, "_PAIRS_CPU", 2 * 4 * 50)
    parts = match(boxes, gts)
    assert torch.equal(whole.gt, parts.gt)
    assert torch.equal(whole.overlap, parts.overlap)


@pytest.mark.parametrize("num_images", [1, 3])
def test_without_ground_truth_nothing_matches(num_images):
    found = match(BOXES, torch.zeros(num_images, 0, 4))
    assert found.gt.tolist() == [[-1] * 6] * num_images
    assert found.overlap.sum() == 0


def test_the_first_of_equal_ground_truths_wins():
    """Each of two equal objects gets a box of its own; the third box overlaps both alike."""
    gts = torch.tensor([[[0.2, 0.2, 0.6, 0.6]] * 2])
    boxes = torch.tensor([[0.2 + i / 100, 0.2, 0.6 + i / 100, 0.6] for i in range(3)])
    found = match_priors(
        boxes, gts, per_prediction=True, overlap_threshold=0.5, ignore_cross_boundary=False
    )
    assert found.gt.tolist() == [[0, 1, 0]]
