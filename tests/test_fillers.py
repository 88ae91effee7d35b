"""Fillers against the reference's draws, their definitions and their refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_ssd.errors import LayerParamError
from caffe_ssd.fillers import fill
from caffe_ssd.proto.caffe_pb2 import FillerParameter
from caffe_ssd.random import CaffeRandom


def filled(shape, seed=1701, **settings):
    return fill(shape, FillerParameter(**settings), CaffeRandom(seed))


def test_an_empty_message_means_zeros():
    values = filled((2, 3))
    assert values.dtype == torch.float32
    assert values.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_scalar_blob_is_filled():
    assert filled((), type="constant", value=0.25).shape == ()
    assert filled((), type="xavier").shape == ()


def test_uniform_equals_the_reference_to_the_bit():
    want = torch.tensor([0.0894332379, 0.518739164, 0.115377702, 0.806680202])
    assert torch.equal(filled((4,), type="uniform"), want)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        ("FAN_IN", (5, 3, 4, 4)),  # 3 * 4 * 4 = 48, and sqrt(3 / 48) = 0.25
        ("FAN_OUT", (3, 5, 4, 4)),
        ("AVERAGE", (2, 4, 16, 1)),  # (64 + 32) / 2 = 48
        ("FAN_IN", (7, 48)),
    ],
)
def test_xavier_equals_the_reference_to_the_bit(norm, shape):
    want = torch.tensor([-0.205283388, 0.00936955214, -0.192311153, 0.153340042])
    values = filled(shape, type="xavier", variance_norm=norm)
    assert torch.equal(values.flatten()[:4], want)


def test_fan_out_of_a_blob_with_one_axis_is_its_count():
    values = filled((48,), type="xavier", variance_norm="FAN_OUT")
    assert values[0].item() == np.float32(-0.205283388)


def test_gaussian_has_mean_and_deviation():
    values = filled((100, 200), type="gaussian", mean=3, std=0.5)
    assert abs(values.mean() - 3) < 0.02
    assert abs(values.std() - 0.5) < 0.02


def test_sparse_gaussian_keeps_a_share():
    values = filled((100, 200), type="gaussian", std=1, sparse=20)
    assert abs((values != 0).float().mean() - 0.2) < 0.02
    assert not filled((5, 7), type="gaussian", std=1, sparse=0).any()


def test_msra_has_its_deviation():
    assert abs(filled((100, 200), type="msra").std() - 0.1) < 0.005


def test_unitball_rows_sum_to_one():
    values = filled((5, 2, 3), type="positive_unitball")
    assert (values >= 0).all()
    torch.testing.assert_close(values.flatten(1).sum(1), torch.ones(5))


def test_bilinear_weights():
    """Kernel 4, factor 2: the outer product of 0.25, 0.75, 0.75, 0.25."""
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    values = filled((3, 2, 4, 4), type="bilinear")
    torch.testing.assert_close(values, torch.outer(row, row).expand(3, 2, 4, 4))
    row = torch.tensor([1, 2, 3, 2, 1]) / 3  # odd kernel: the centre is a cell
    torch.testing.assert_close(filled((1, 1, 5, 5), type="bilinear")[0, 0], torch.outer(row, row))


def test_a_constant_draws_nothing():
    rng = CaffeRandom(1701)
    fill((5,), FillerParameter(type="constant", value=2), rng)
    assert rng.word() == 384112814


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((2,), {"type": "magic"}, "unknown filler type 'magic'; known types: bilinear, constant"),
        ((2, 0), {"type": "constant"}, r"without elements, shape \[2, 0\]"),
        ((2,), {"type": "uniform", "min": 2, "max": 1}, "min 2 must not exceed max 1"),
        ((2,), {"type": "gaussian", "std": 0}, "std must be positive, got 0"),
        ((2,), {"type": "xavier", "sparse": 1}, "sparse needs filler type 'gaussian'"),
        ((2,), {"type": "gaussian", "sparse": 3}, "sparse 3 exceeds the blob's 2 rows"),
        ((2,), {"type": "gaussian", "sparse": -2}, "sparse must be -1 or more, got -2"),
        ((1, 2, 3, 4, 5), {"type": "xavier"}, "'xavier' needs at most 4 axes"),
        ((1, 1, 3, 4), {"type": "bilinear"}, r"square kernel, got shape \[1, 1, 3, 4\]"),
    ],
)
def test_refusals(shape, settings, message):
    with pytest.raises(LayerParamError, match=message):
        filled(shape, **settings)
