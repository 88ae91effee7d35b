"""SmoothL1Loss against the recorded cases."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.layers.smooth_l1_loss import SmoothL1Loss
from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    case_id,
    check_refusal,
    error_cases,
    layer_cases,
    run_layer_case,
)


@needs_golden
@pytest.mark.parametrize("case", layer_cases("SmoothL1Loss"), ids=case_id)
def test_recorded_case(case, tmp_path):
    run_layer_case(case, tmp_path)


@needs_golden
@pytest.mark.parametrize("entry", error_cases("SmoothL1Loss"), ids=case_id)
def test_refusal(entry, tmp_path):
    check_refusal(entry, tmp_path)


def test_the_true_gradient_reaches_both_bottoms():
    a = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SmoothL1Loss(), (a, b))


def test_the_sum_is_divided_by_the_batch():
    loss = SmoothL1Loss()(torch.tensor([[0.5, 3.0], [0, 0]]), torch.zeros(2, 2))
    assert loss.item() == (0.125 + 2.5) / 2
