"""GroupNorm against its definition."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import LayerParamError, ShapeError
from tests.layers.build import build, draw

SHAPE = (3, 6, 5, 4)


def naive(x, num_groups, eps):
    y = torch.empty_like(x)
    size = x.shape[1] // num_groups
    for n in range(x.shape[0]):
        for first in range(0, x.shape[1], size):
            group = x[n, first : first + size]
            y[n, first : first + size] = (group - group.mean()) / (
                group.var(correction=0) + eps
            ).sqrt()
    return y


@pytest.mark.parametrize("shape", [SHAPE, (3, 6), (2, 6, 7), (1, 6, 1, 1)])
@pytest.mark.parametrize("num_groups", [1, 2, 6])
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_groups_are_normalised(shape, num_groups, phase):
    settings = f"group_norm_param {{ num_groups: {num_groups} eps: 0.01 }}"
    layer = build("GroupNorm", settings, shape, phase=phase)
    x = 2 * draw(*shape) + 3
    torch.testing.assert_close(layer(x), naive(x, num_groups, 0.01))
    assert layer.top_shapes(shape) == (shape,)
    assert not list(layer.blobs)


def test_defaults():
    layer = build("GroupNorm", "", (2, 64, 3))
    x = draw(2, 64, 3)
    torch.testing.assert_close(layer(x), naive(x, 32, 1e-5))


def test_gradient():
    layer = build("GroupNorm", "group_norm_param { num_groups: 2 eps: 0.1 }", SHAPE)
    x = draw(*SHAPE, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_refusals():
    with pytest.raises(ShapeError, match=r"num_groups 32 must divide the channels.*\[3, 6, 5, 4\]"):
        build("GroupNorm", "", SHAPE)
    with pytest.raises(ShapeError, match="at least 2 axes"):
        build("GroupNorm", "", (6,))
    with pytest.raises(LayerParamError, match="num_groups must be at least 1, got 0"):
        build("GroupNorm", "group_norm_param { num_groups: 0 }", SHAPE)
    with pytest.raises(LayerParamError, match="eps must be positive, got 0"):
        build("GroupNorm", "group_norm_param { num_groups: 2 eps: 0 }", SHAPE)
