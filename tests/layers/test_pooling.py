"""Pooling and SPP against a loop over the windows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.pool_window import Window, average_pool, max_pool
from caffe_ssd.layers.pooling import stochastic_pool
from tests.layers.build import build, draw

LOWEST = torch.finfo(torch.float32).min


def naive_pool(x, window):
    """Maxima, their indices and averages, by the reference's loops."""
    sizes = x.shape[2:]
    counts = []
    for i in (0, 1):
        kernel, stride, pad = window.kernel[i], window.stride[i], window.pad[i]
        count = math.ceil((sizes[i] + 2 * pad - kernel) / stride) + 1
        if any(window.pad) and (count - 1) * stride >= sizes[i] + pad:
            count -= 1
        counts.append(count)
    shape = (*x.shape[:2], *counts)
    top, index, mean = torch.full(shape, LOWEST), torch.full(shape, -1), torch.zeros(shape)
    for n, c, i, j in itertools.product(*map(range, shape)):
        starts = [at * s - p for at, s, p in zip((i, j), window.stride, window.pad, strict=True)]
        ends = [
            min(start + k, size + p)
            for start, k, size, p in zip(starts, window.kernel, sizes, window.pad, strict=True)
        ]
        total = torch.zeros(())
        for h in range(max(starts[0], 0), min(ends[0], sizes[0])):
            for w in range(max(starts[1], 0), min(ends[1], sizes[1])):
                total = total + x[n, c, h, w]
                if x[n, c, h, w] > top[n, c, i, j]:
                    top[n, c, i, j] = x[n, c, h, w]
                    index[n, c, i, j] = h * sizes[1] + w
        mean[n, c, i, j] = total / ((ends[0] - starts[0]) * (ends[1] - starts[1]))
    return top, index, mean


WINDOWS = [
    Window(kernel=(k0, k1), stride=(s0, s1), pad=(p0, p1))
    for k0, k1, s0, s1, p0, p1 in [
        (2, 2, 2, 2, 0, 0),
        (3, 3, 1, 1, 1, 1),
        (3, 2, 2, 1, 1, 0),
        (3, 3, 2, 2, 2, 2),
        (4, 3, 3, 2, 3, 1),
        (2, 3, 3, 2, 0, 1),
        (1, 1, 2, 3, 0, 0),
        (1, 2, 4, 3, 0, 0),
        (5, 6, 1, 2, 0, 0),
    ]
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("sizes", [(5, 6), (8, 7), (6, 9)])
def test_matches_a_loop(window, sizes):
    x = draw(2, 3, *sizes).round(decimals=1)  # with ties
    top, index, mean = naive_pool(x, window)
    have, have_index = max_pool(x, window)
    assert torch.equal(have, top)
    assert torch.equal(have_index, index)
    torch.testing.assert_close(average_pool(x, window), mean, equal_nan=True)


@pytest.mark.parametrize("window", WINDOWS[:4], ids=str)
def test_nan_never_wins(window):
    x = draw(1, 2, 6, 5)
    x[0, 0, 1] = torch.nan
    x[0, 1] = torch.nan
    x[0, 0, 4] = -torch.inf
    top, index, _ = naive_pool(x, window)
    have, have_index = max_pool(x, window)
    assert torch.equal(have, top)
    assert torch.equal(have_index, index)


def test_can_be_exported():
    """torch.export cannot follow a choice that depends on numbers."""

    class Pool(torch.nn.Module):
        def forward(self, x):
            return max_pool(x, Window(kernel=(2, 3)))

    x = draw(2, 3, 5, 7)
    made = torch.export.export(Pool(), (x,)).module()
    torch.testing.assert_close(made(x), Pool()(x), rtol=0, atol=0)
    assert bool((made(x.fill_(torch.nan))[1] == -1).all())


def test_an_empty_window_gets_no_gradient():
    x = draw(1, 1, 3, 3).requires_grad_()
    layer = build("Pooling", "pooling_param { kernel_size: 1 stride: 3 }", (1, 1, 3, 3))
    layer(x).sum().backward()
    assert layer(x)[0, 0, 1, 1] == LOWEST
    assert x.grad.sum() == 1
    assert x.grad[0, 0, 0, 0] == 1


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("window", ["kernel_size: 3 stride: 2 pad: 1", "kernel_size: 3 pad: 2"])
def test_gradient(pool, window):
    layer = build("Pooling", f"pooling_param {{ pool: {pool} {window} }}", (1, 2, 5, 4))
    x = draw(1, 2, 5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))


def test_global_pooling_follows_the_plane():
    layer = build("Pooling", "pooling_param { global_pooling: true pool: AVE }", (2, 3, 4, 5))
    for shape in ((2, 3, 4, 5), (2, 3, 7, 6)):
        x = draw(*shape)
        torch.testing.assert_close(layer(x), x.mean((2, 3), keepdim=True))
        assert layer.top_shapes(shape) == ((2, 3, 1, 1),)


def test_channels_last_is_kept():
    x = draw(2, 4, 6, 5).to(memory_format=torch.channels_last)
    for pool in ("MAX", "AVE"):
        layer = build("Pooling", f"pooling_param {{ pool: {pool} kernel_size: 2 }}", (2, 4, 6, 5))
        assert layer(x).is_contiguous(memory_format=torch.channels_last)


def test_stochastic_pooling_takes_the_first_cell_past_the_threshold():
    x = torch.tensor([[[[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]]])
    window = Window(kernel=(2, 2), stride=(1, 1))
    for threshold, want in ((0.05, 1), (0.1, 1), (0.3, 2), (0.5, 3), (1.0, 4)):
        y = stochastic_pool(x, window, torch.full((1, 1, 1, 2), threshold))
        assert y[0, 0, 0, 0] == want
    expected = stochastic_pool(x, window, None)
    torch.testing.assert_close(expected[0, 0, 0, 0], torch.tensor(30 / 10))


def test_stochastic_layer_draws_in_phase_train():
    settings = "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }"
    x = draw(2, 3, 5, 6).abs()
    for phase in ("TRAIN", "TEST"):
        layer = build("Pooling", settings, tuple(x.shape), phase=phase)
        assert (tuple(layer(x).shape),) == layer.top_shapes(tuple(x.shape))


def test_spp_levels():
    layer = build("SPP", "spp_param { pyramid_height: 2 pool: AVE }", (2, 3, 4, 6))
    x = draw(2, 3, 4, 6)
    whole = x.mean((2, 3))
    quarters = x.reshape(2, 3, 2, 2, 2, 3).mean((3, 5)).flatten(1)
    torch.testing.assert_close(layer(x), torch.cat([whole, quarters], 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "kernel_size is missing"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "either kernel_size or kernel_h and kernel_w"),
        ("kernel_h: 2", "kernel_h and kernel_w must be given together"),
        ("kernel_size: 0", r"kernel size must be positive, got \[0, 0\]"),
        ("kernel_size: 2 stride: 0", r"stride must be positive, got \[0, 0\]"),
        ("kernel_size: 2 pad: 2", r"pad \[2, 2\] must be below the kernel size \[2, 2\]"),
        ("global_pooling: true kernel_size: 2", "global_pooling takes no kernel size"),
        ("global_pooling: true stride: 2", "global_pooling needs pad 0 and stride 1"),
        ("pool: STOCHASTIC kernel_size: 3 pad: 1", "pad needs pool: MAX or AVE"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(LayerParamError, match=message):
        build("Pooling", f"pooling_param {{ {settings} }}", (2, 4, 6, 5))


def test_shape_refusals():
    settings = "pooling_param { kernel_size: 2 }"
    with pytest.raises(ShapeError, match=r"must have 4 axes, got shape \[2, 4, 6\]"):
        build("Pooling", settings, (2, 4, 6))
    with pytest.raises(ShapeError, match="needs pool: MAX"):
        build("Pooling", "pooling_param { pool: AVE kernel_size: 2 }", (2, 4, 6, 5), tops=2)
    with pytest.raises(ShapeError, match="must be positive"):
        build("Pooling", "pooling_param { kernel_size: 8 }", (2, 4, 6, 5))
    with pytest.raises(ShapeError, match=r"\[5, 5\] is too small for 4 x 4 bins"):
        build("SPP", "spp_param { pyramid_height: 3 }", (2, 3, 5, 5))
