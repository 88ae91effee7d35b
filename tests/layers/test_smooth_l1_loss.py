"""SmoothL1Loss against its definition."""

from __future__ import annotations

import torch

from caffe_ssd.layers.smooth_l1_loss import SmoothL1Loss


def test_the_true_gradient_reaches_both_bottoms():
    a = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SmoothL1Loss(), (a, b))


def test_the_sum_is_divided_by_the_batch():
    loss = SmoothL1Loss()(torch.tensor([[0.5, 3.0], [0, 0]]), torch.zeros(2, 2))
    assert loss.item() == (0.125 + 2.5) / 2
