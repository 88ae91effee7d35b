"""BatchNorm against its definition, with and without the affine part it can be joined with."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.batch_norm import batch_norm_global, batch_norm_train
from tests.layers.build import build, draw

SHAPE = (3, 4, 5, 2)


def naive(x, mean, variance, eps):
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return (x - mean.reshape(shape)) / (variance.reshape(shape) + eps).sqrt()


def test_statistics_decay_and_add_up():
    layer = build(
        "BatchNorm", "batch_norm_param { moving_average_fraction: 0.5 }", SHAPE, phase="TRAIN"
    )
    x = draw(*SHAPE) + 3
    mean = x.mean((0, 2, 3))
    biased, unbiased = (x.var((0, 2, 3), correction=c) for c in (0, 1))
    torch.testing.assert_close(layer(x), naive(x, mean, biased, 1e-5))
    layer(x)
    torch.testing.assert_close(layer.blobs[0].data, 1.5 * mean)
    torch.testing.assert_close(layer.blobs[1].data, 1.5 * unbiased)
    assert layer.blobs[2].item() == 1.5
    assert not any(blob.requires_grad for blob in layer.blobs)


def test_fresh_statistics_are_zero():
    layer = build("BatchNorm", "batch_norm_param { eps: 0.25 }", (2, 3))
    x = draw(2, 3)
    torch.testing.assert_close(layer(x), 2 * x)
    assert layer.blobs[2].item() == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_joined_with_an_affine_part(layout):
    x = draw(*SHAPE).to(memory_format=layout)
    weight, bias = draw(4, seed=1), draw(4, seed=2)
    blobs = [torch.zeros(4), torch.zeros(4), torch.zeros(1)]
    y = batch_norm_train(x, *blobs, weight, bias, eps=1e-3, moving_average_fraction=0.9)
    plain = naive(x, x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0), 1e-3)
    want = plain * weight[:, None, None] + bias[:, None, None]
    torch.testing.assert_close(y, want)
    assert y.is_contiguous(memory_format=layout)
    y = batch_norm_global(x, *blobs, weight, bias, eps=1e-3)
    plain = naive(x, x.mean((0, 2, 3)), x.var((0, 2, 3)), 1e-3)
    torch.testing.assert_close(y, plain * weight[:, None, None] + bias[:, None, None])


@pytest.mark.parametrize("train", [True, False])
def test_gradient(train):
    settings = f"batch_norm_param {{ use_global_stats: {str(not train).lower()} eps: 0.1 }}"
    layer = build("BatchNorm", settings, SHAPE).double()
    layer.blobs[0].data += 0.5
    layer.blobs[1].data += 2
    layer.blobs[2].data += 4
    x = draw(*SHAPE, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_single_elements_have_no_variance():
    layer = build("BatchNorm", "", (1, 3, 1, 1), phase="TRAIN")
    x = draw(1, 3, 1, 1).requires_grad_()
    y = layer(x)
    assert not y.any()
    y.sum().backward()
    assert not x.grad.any()
    x = x.detach()
    assert torch.equal(layer.blobs[0].data, x.flatten())
    assert not layer.blobs[1].any()


def test_the_input_is_left_alone():
    layer = build("BatchNorm", "", SHAPE, phase="TRAIN")
    x = draw(*SHAPE)
    layer(x)
    assert torch.equal(x, draw(*SHAPE))


def test_refusals():
    with pytest.raises(LayerParamError, match="lr_mult of param 1 must be 0, got 1"):
        build("BatchNorm", "param { lr_mult: 0 } param {}", SHAPE)
    with pytest.raises(ShapeError, match=r"\(BatchNorm\): bottom 0 must have at least 2 axes"):
        build("BatchNorm", "", (7,))
    with pytest.raises(ShapeError, match=r"must have 4 channels, got shape \[3, 5, 5, 2\]"):
        build("BatchNorm", "", SHAPE).top_shapes((3, 5, 5, 2))
