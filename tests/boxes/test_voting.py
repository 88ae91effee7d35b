"""Merging detections of several looks, against loops that say what it means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.boxes.merging import MergeRule, box_voting, merge_detections, mirrored, of_size
from tests.boxes.naive import naive_iou, naive_nms, random_boxes


def random_rows(count, *, seed, num_images=3, num_labels=4, decimals=2):
    """Rows (image, label, score, box); rounded scores make ties, label 0 is the background."""
    rng = np.random.RandomState(seed)
    keys = np.stack([rng.randint(num_images, size=count), rng.randint(1, num_labels, size=count)])
    scores = rng.rand(count).round(1)
    boxes = random_boxes(count, seed=seed, decimals=decimals)
    return torch.cat([torch.tensor(np.array([*keys, scores])).float().T, boxes], 1)


def naive_vote(box, voters, threshold):
    """The mean box of float64 numbers, weighted by score."""
    total, weight = np.zeros(4), 0.0
    for score, voter in voters:
        if voter is box or naive_iou(box, voter) > threshold:
            total += np.float64(score) * voter.double().numpy()
            weight += np.float64(score)
    return (total / weight).astype(np.float32)


def naive_merge(looks, rule):
    """Image by image and class by class."""
    rows = torch.cat(looks)
    found = []
    for image in range(8):
        of_image = []
        for label in range(8):
            part = rows[(rows[:, 0] == image) & (rows[:, 1] == label)]
            part = part[sorted(range(len(part)), key=lambda i, p=part: -p[i, 2])]
            boxes = [row[3:] for row in part]
            voters = list(zip(part[:, 2].tolist(), boxes, strict=True))
            for i in naive_nms(part[:, 3:], rule.nms_threshold):
                box = boxes[i].numpy()
                if rule.vote_threshold is not None:
                    box = naive_vote(boxes[i], voters, rule.vote_threshold)
                of_image.append([*part[i, :3].tolist(), *box.tolist()])
        best = sorted(range(len(of_image)), key=lambda i: -of_image[i][2])
        if rule.keep_top_k >= 0:
            best = best[: rule.keep_top_k]
        found += [of_image[i] for i in sorted(best)]
    return torch.tensor(found)


@pytest.mark.parametrize("keep_top_k", [-1, 11])
@pytest.mark.parametrize("vote_threshold", [None, 0.5, 0.2])
@pytest.mark.parametrize("nms_threshold", [0.0, 0.45])
def test_merging_matches_the_loop(nms_threshold, vote_threshold, keep_top_k):
    looks = [
        random_rows(count, seed=count) + torch.tensor([0, 0, 0.01] + [0] * 4)
        for count in (61, 0, 90)
    ]
    rule = MergeRule(
        nms_threshold=nms_threshold, vote_threshold=vote_threshold, keep_top_k=keep_top_k
    )
    have, want = merge_detections(looks, rule), naive_merge(looks, rule)
    assert torch.equal(have[:, :3], want[:, :3])
    torch.testing.assert_close(have, want, rtol=0, atol=1e-7)


@given(st.integers(0, 10**6))
def test_a_box_without_other_voters_stays_bit_for_bit(seed):
    row = random_rows(1, seed=seed, decimals=None)
    assert torch.equal(merge_detections([row], MergeRule()), row)


def test_nms_keeps_what_it_kept_before():
    """Detections that were suppressed once with the same threshold are all kept, as they are."""
    rule = MergeRule(nms_threshold=0.3, vote_threshold=None)
    once = merge_detections([random_rows(80, seed=4)], rule)
    assert torch.equal(merge_detections([once], rule), once)


def test_votes_are_weighted_by_score_and_stay_within_their_class():
    boxes = torch.tensor([[0, 0, 0.4, 0.4], [0.1, 0, 0.5, 0.4], [0, 0, 0.4, 0.41], [0.9, 0, 1, 1]])
    scores, labels = torch.tensor([0.6, 0.2, 0.9, 0.9]), torch.tensor([2, 2, 1, 2])
    kept = torch.tensor([True, False, False, True])
    have = box_voting(boxes, scores, labels, kept, threshold=0.5)
    torch.testing.assert_close(have[0], torch.tensor([0.025, 0, 0.425, 0.4]))
    assert torch.equal(have[1], boxes[3])


def test_boxes_that_are_no_numbers_spoil_nobody():
    boxes = torch.tensor([[0, 0, 0.4, 0.4], [0, 0, torch.inf, 1], [0.02, 0, 0.42, 0.4]])
    kept = torch.tensor([True, True, False])
    have = box_voting(boxes, torch.tensor([0.0, 0, 0]), torch.ones(3), kept, threshold=0.5)
    torch.testing.assert_close(have[0], torch.tensor([0.01, 0, 0.41, 0.4]))
    assert torch.equal(have[1], boxes[1])


def test_mirroring():
    rows = torch.tensor([[1, 2, 0.5, 0.1, 0.2, 0.4, 0.7]])
    torch.testing.assert_close(mirrored(rows)[0], torch.tensor([1, 2, 0.5, 0.6, 0.2, 0.9, 0.7]))
    torch.testing.assert_close(mirrored(mirrored(rows)), rows)


def test_sizes_are_roots_of_areas():
    rows = torch.zeros(3, 7)
    rows[:, 5] = torch.tensor([0.1, 0.4, 0.9])  # widths
    rows[:, 6] = torch.tensor([0.4, 0.4, 0.9])  # heights
    assert of_size(rows, 0, 0.25).tolist() == rows[:1].tolist()
    assert of_size(rows, 0.2, 0.9).tolist() == rows.tolist()
    assert of_size(rows, 0.3, 1).tolist() == rows[1:].tolist()


def test_nothing_gives_nothing():
    assert merge_detections([torch.zeros(0, 7), torch.zeros(0, 7)], MergeRule()).shape == (0, 7)
