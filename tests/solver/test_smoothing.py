"""The smoothed loss against a plain mean of the last losses."""

from __future__ import annotations

import math

import pytest
import torch

from caffe_ssd.solver.smoothing import LossWindow


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("asks_every_time", [True, False])
def test_is_the_mean_of_the_last_losses(size: int, asks_every_time: bool) -> None:
    window = LossWindow(size)
    losses = [math.sin(i) + 2 for i in range(10)]
    for i, loss in enumerate(losses):
        window.add(torch.tensor(loss))
        if asks_every_time:
            last = losses[max(0, i + 1 - size) : i + 1]
            assert window.mean == pytest.approx(sum(last) / len(last), rel=1e-5)
    last = losses[-size:]
    assert window.mean == pytest.approx(sum(last) / len(last), rel=1e-5)


def test_starts_at_zero() -> None:
    assert LossWindow(3).mean == 0


def test_keeps_no_graph_and_no_endless_list() -> None:
    window = LossWindow(2)
    loss = torch.ones((), requires_grad=True) * 3
    for _ in range(3000):
        window.add(loss)
    assert len(window._pending) < 2000
    assert window.mean == 3
