"""Element-wise layers, normalisers and dropout."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import LayerParamError, ShapeError
from tests.layers.build import build, draw

SHAPE = (2, 3, 4, 5)


def test_lrn_across_channels_matches_a_loop():
    x = draw(2, 7, 3, 4)
    settings = "lrn_param { local_size: 5 alpha: 0.5 beta: 0.6 k: 2 }"
    y = build("LRN", settings, tuple(x.shape))(x)
    for c in range(7):
        window = x[:, max(c - 2, 0) : c + 3].square().sum(1)
        torch.testing.assert_close(y[:, c], x[:, c] * (2 + 0.1 * window) ** -0.6)


def test_power_at_zero():
    """The gradient divides by the base: NaN at 0, and none for a constant."""
    x = torch.zeros(2, requires_grad=True)
    y = build("Power", "power_param { power: 3 }", (2,))(x)
    y.sum().backward()
    assert x.grad.isnan().all()
    y = build("Power", "power_param { power: 2.5 scale: 0 shift: 4 }", (2,))(x)
    assert y.tolist() == [32, 32]
    assert not y.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_draws_the_reference_mask(dtype):
    layer = build("Dropout", "dropout_param { dropout_ratio: 0.3 }", (2, 8), phase="TRAIN")
    x = torch.ones(2, 8, dtype=dtype, requires_grad=True)
    y = layer(x)
    kept = torch.tensor([int(bit) for bit in "1110111001001111"], dtype=dtype).reshape(2, 8)
    torch.testing.assert_close(y, kept / 0.7)
    y.sum().backward()
    torch.testing.assert_close(x.grad, kept / 0.7)
    assert not torch.equal(layer(x), y)  # a fresh mask


def test_dropout_is_the_identity_in_phase_test():
    x = draw(2, 8)
    assert torch.equal(build("Dropout", "", (2, 8))(x), x)


def test_prelu_slopes_start_at_a_quarter():
    assert build("PReLU", "", SHAPE).blobs[0].tolist() == [0.25] * 3
    shared = build("PReLU", "prelu_param { channel_shared: true filler {} }", SHAPE).blobs[0]
    assert shared.shape == ()
    assert shared.item() == 0


def test_threshold_is_strict():
    layer = build("Threshold", "threshold_param { threshold: 0.5 }", (3,))
    assert layer(torch.tensor([0.4, 0.5, 0.6])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("layer_type", "settings", "shape", "error", "message"),
    [
        ("AbsVal", 'bottom: "x" top: "x"', SHAPE, LayerParamError, "in place, but top 'x'"),
        ("Dropout", "dropout_param { dropout_ratio: 1 }", SHAPE, LayerParamError, "got 1"),
        ("Exp", "exp_param { base: 0 }", SHAPE, LayerParamError, "base must be positive.* got 0"),
        ("Log", "log_param { base: 1 }", SHAPE, LayerParamError, "not 1, or -1 for e, got 1"),
        ("LRN", "lrn_param { local_size: 4 }", SHAPE, LayerParamError, "must be odd, got 4"),
        ("LRN", "", (2, 3, 5), ShapeError, r"must have 4 axes, got shape \[2, 3, 5\]"),
        ("MVN", "", (2, 3, 4, 5, 6), ShapeError, "at most 4 axes"),
        ("PReLU", "", (7,), ShapeError, "at least 2 axes"),
        ("Softmax", "softmax_param { axis: 4 }", SHAPE, LayerParamError, "axis 4 is out of range"),
    ],
)
def test_refusals(layer_type, settings, shape, error, message):
    with pytest.raises(error, match=rf"layer 'layer' \({layer_type}\): .*{message}"):
        build(layer_type, settings, shape)


def test_mvn_makes_four_axes():
    layer = build("MVN", "", (2, 3, 7))
    x = draw(2, 3, 7)
    y = layer(x)
    assert y.shape == (2, 3, 7, 1)
    want = (x - x.mean(2, keepdim=True)) / x.std(2, correction=0, keepdim=True)
    torch.testing.assert_close(y.squeeze(3), want)
