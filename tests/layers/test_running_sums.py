"""Running sums that are put off are those that are added at once."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.running_sums import RunningSums, decay_and_add

ADDED = [([0], 0.9), ([1, 2], 0.9), ([0], 0.9), ([3], 0.5), ([3], 0.9), ([1], 0.5)]


def sums() -> list[Tensor]:
    return [torch.arange(1.0, 4) + i for i in range(4)]


def test_the_same_in_the_same_order():
    at_once, later = sums(), sums()
    waiting = RunningSums()
    for places, fraction in ADDED:
        added = [torch.full((3,), 10.0 + i) for i in places]
        decay_and_add([at_once[i] for i in places], added, fraction)
        waiting.put_off([later[i] for i in places], added, fraction)
    waiting.settle()
    for have, want in zip(later, at_once, strict=True):
        assert torch.equal(have, want)


def test_they_wait():
    (x, *_), waiting = sums(), RunningSums()
    waiting.put_off([x], [torch.ones(3)], 0.5)
    assert torch.equal(x, sums()[0])
    waiting.settle()
    once = 0.5 * sums()[0] + 1
    assert torch.equal(x, once)
    waiting.settle()  # nothing waits any more
    assert torch.equal(x, once)
