"""Suppression against the greedy loop it must equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_ssd.boxes import nms
from caffe_ssd.boxes.nms import grouped_nms
from tests.boxes.naive import naive_nms, random_boxes


def kept(boxes, sizes, **settings):
    """Indices kept within each list."""
    marks = torch.from_numpy(grouped_nms(boxes.numpy(), sizes, **settings)).split(sizes)
    return [mark.nonzero()[:, 0].tolist() for mark in marks]


@pytest.mark.parametrize("eta", [1.0, 0.8])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_many_lists_match_the_greedy_loop(threshold, eta):
    sizes = [7, 0, 40, 1, 40, 23]
    boxes = random_boxes(sum(sizes), seed=5, decimals=1)
    want = [naive_nms(part, threshold, eta) for part in boxes.split(sizes)]
    assert kept(boxes, sizes, threshold=threshold, eta=eta) == want


@pytest.mark.parametrize("block", [1, 4, 64])
def test_a_long_list_is_settled_block_by_block(block, monkeypatch):
    monkeypatch.setattr(nms, "_BLOCK", block)
    boxes = random_boxes(60, seed=6)
    assert kept(boxes, [60], threshold=0.2) == [naive_nms(boxes, 0.2)]


def test_a_chain_of_boxes_is_decided_from_its_head():
    """Every box covers the next one only, so every second one stays."""
    left = torch.arange(30) * 0.4
    boxes = torch.stack([left, torch.zeros(30), left + 1, torch.ones(30)], 1)
    assert kept(boxes, [30], threshold=0.3) == [list(range(0, 30, 2))]


def test_the_vector_of_the_spec():
    boxes = torch.tensor(
        [[0.1, 0.1, 0.3, 0.3], [0.2, 0.1, 0.4, 0.3], [0.1, 0.2, 0.4, 0.4], [0.2, 0, 0.4, 0.2]]
    )
    assert kept(boxes, [4], threshold=0.3) == [[0, 2, 3]]


def test_nothing_gives_nothing():
    nothing = np.zeros((0, 4), np.float32)
    assert grouped_nms(nothing, [], threshold=0.3).shape == (0,)
    assert grouped_nms(nothing, [0, 0], threshold=0.3).shape == (0,)


@pytest.mark.parametrize("count", [5, 50, 300])
@pytest.mark.parametrize("eta", [1.0, 0.9])
def test_boxes_too_large_for_an_area_are_kept_without_a_warning(count, eta):
    boxes = np.tile(np.array([-3e38, -3e38, 3e38, 3e38], np.float32), (count, 1))
    assert grouped_nms(boxes, [count], threshold=0.6, eta=eta).all()
