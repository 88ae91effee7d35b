"""Normalize: the true gradient and the reference's."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.layers.normalize import Normalize


def normalize_layer(scale, **settings):
    defaults = {"across_spatial": False, "eps": 1e-10}
    return Normalize(torch.tensor(scale, dtype=torch.float64), **(defaults | settings))


def test_the_vector_of_the_spec():
    x = torch.tensor([[[[3.0]], [[4.0]]]], dtype=torch.float64, requires_grad=True)
    layer = normalize_layer([2.0, 10.0])
    y = layer(x)
    y.backward(torch.tensor([[[[1.0]], [[0.0]]]], dtype=torch.float64))
    assert y.flatten().tolist() == pytest.approx([1.2, 8])
    assert x.grad.flatten().tolist() == pytest.approx([0.256, -0.96])
    assert layer.blobs[0].grad.tolist() == pytest.approx([0.6, 0])


def test_the_true_gradient_can_be_asked_for():
    x = torch.tensor([[[[3.0]], [[4.0]]]], dtype=torch.float64, requires_grad=True)
    layer = normalize_layer([2.0, 10.0], exact_gradient=True)
    layer(x).backward(torch.tensor([[[[1.0]], [[0.0]]]], dtype=torch.float64))
    assert x.grad.flatten().tolist() == pytest.approx([0.256, -0.192])


@pytest.mark.parametrize("across_spatial", [False, True])
def test_with_one_scale_the_gradient_is_the_true_one(across_spatial):
    layer = normalize_layer(1.7, across_spatial=across_spatial)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_a_larger_batch_than_at_first_is_fine():
    layer = normalize_layer([1.0, 2.0, 3.0], across_spatial=True)
    for batch in (2, 5):
        assert layer(torch.ones(batch, 3, 4, 5, dtype=torch.float64)).shape[0] == batch


@pytest.mark.parametrize("learns", [False, True])
def test_eps_stands_under_the_root(learns):
    x = torch.tensor([[3e-5, 4e-5]], dtype=torch.float64, requires_grad=learns)
    with torch.set_grad_enabled(learns):
        y = normalize_layer([2.0, 10.0], eps=11.9e-9)(x)
    root = (25e-10 + 119e-10) ** 0.5
    assert y.flatten().tolist() == pytest.approx([6e-5 / root, 40e-5 / root])
