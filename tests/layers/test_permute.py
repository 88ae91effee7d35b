"""Permute: what is copied and what is not."""

from __future__ import annotations

import torch

from caffe_ssd.layers.permute import Permute


def test_the_result_is_laid_out_anew():
    top = Permute(order=(0, 2, 3, 1))(torch.arange(120.0).reshape(2, 3, 4, 5))
    assert top.shape == (2, 4, 5, 3)
    assert top.is_contiguous()
    assert top[1, 2, 3, 0] == 60 + 2 * 5 + 3


def test_an_order_that_changes_nothing_copies_nothing():
    bottom = torch.zeros(2, 3)
    assert Permute(order=(0, 1))(bottom) is bottom
