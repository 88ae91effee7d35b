"""Permute against the recorded cases."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.layers.permute import Permute
from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    case_id,
    check_refusal,
    error_cases,
    layer_cases,
    run_layer_case,
)


@needs_golden
@pytest.mark.parametrize("case", layer_cases("Permute"), ids=case_id)
def test_recorded_case(case, tmp_path):
    run_layer_case(case, tmp_path)


@needs_golden
@pytest.mark.parametrize("entry", error_cases("Permute"), ids=case_id)
def test_refusal(entry, tmp_path):
    check_refusal(entry, tmp_path)


def test_the_result_is_laid_out_anew():
    top = Permute(order=(0, 2, 3, 1))(torch.arange(120.0).reshape(2, 3, 4, 5))
    assert top.shape == (2, 4, 5, 3)
    assert top.is_contiguous()
    assert top[1, 2, 3, 0] == 60 + 2 * 5 + 3


def test_an_order_that_changes_nothing_copies_nothing():
    bottom = torch.zeros(2, 3)
    assert Permute(order=(0, 1))(bottom) is bottom
