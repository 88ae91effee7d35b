"""Choice of the hardest examples."""

from __future__ import annotations

import torch

from caffe_ssd.boxes.mining import hardest, hardest_apart


def test_equal_losses_go_to_the_lower_prior():
    loss = torch.tensor([[1.0, 2, 2, 2, 0.5], [3, 3, 3, 3, 3]])
    eligible = torch.tensor([[True] * 5, [False, True, True, True, True]])
    chosen = hardest(loss, eligible, torch.tensor([2, 3]))
    assert chosen.int().tolist() == [[0, 1, 1, 0, 0], [0, 1, 1, 1, 0]]


def test_the_budget_is_cut_to_what_is_eligible():
    loss = torch.tensor([[0.3, 0.1, 0.2], [0.3, 0.1, 0.2], [1, 2, 3]])
    eligible = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
    chosen = hardest(loss, eligible, torch.tensor([9, 9, 0]))
    assert chosen.int().tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_matches_a_stable_sort():
    generator = torch.Generator().manual_seed(1)
    loss = torch.randint(0, 9, (4, 50), generator=generator).float()
    eligible = torch.rand(4, 50, generator=generator) < 0.7
    budget = torch.tensor([0, 5, 20, 60])
    chosen = hardest(loss, eligible, budget)
    for image in range(4):
        ranked = sorted(
            (i for i in range(50) if eligible[image, i]), key=lambda i: (-loss[image, i], i)
        )
        assert chosen[image].nonzero()[:, 0].tolist() == sorted(ranked[: budget[image]])


BOXES = torch.tensor(
    [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.45], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.202, 0.202]]
)
LOSS = torch.tensor([1.0, 2, 0.5, 9])


def apart(eligible=(True,) * 4, **settings):
    defaults = {"budget": 9, "nms_threshold": 0.5, "top_k": -1}
    chosen = hardest_apart(LOSS, BOXES, torch.tensor(eligible), **(defaults | settings))
    return chosen.nonzero()[:, 0].tolist()


def test_boxes_that_cover_each_other_and_tiny_ones_are_dropped():
    assert apart() == [1, 2]
    assert apart(eligible=(True, False, True, True)) == [0, 2]


def test_top_k_counts_before_and_the_budget_after():
    assert apart(top_k=2) == [1]  # the tiny box has used up one place
    assert apart(top_k=0) == []
    assert apart(budget=1) == [1]
