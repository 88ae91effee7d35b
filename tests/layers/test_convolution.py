"""Convolution, Deconvolution and Im2col against loops and each other."""

from __future__ import annotations

import itertools

import pytest
import torch

from caffe_ssd.errors import LayerParamError, ShapeError
from tests.layers.build import build, draw

FILLERS = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'


def naive_conv(x, weight, bias, stride, pad, dilation, group):
    """One output at a time; x is (N, C, H, W)."""
    num, channels, height, width = x.shape
    outputs, _, kernel_h, kernel_w = weight.shape
    sizes = []
    for size, kernel in ((height, kernel_h), (width, kernel_w)):
        room = size + 2 * pad - (dilation * (kernel - 1) + 1)
        sizes.append(int(room / stride) + 1)  # int() cuts toward zero
    y = torch.zeros(num, outputs, *sizes)
    per_in, per_out = channels // group, outputs // group
    for n, o, i, j in itertools.product(range(num), range(outputs), *map(range, sizes)):
        total = bias[o].clone()
        for c, ky, kx in itertools.product(range(per_in), range(kernel_h), range(kernel_w)):
            row = i * stride - pad + ky * dilation
            column = j * stride - pad + kx * dilation
            if 0 <= row < height and 0 <= column < width:
                total += weight[o, c, ky, kx] * x[n, o // per_out * per_in + c, row, column]
        y[n, o, i, j] = total
    return y


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "group"),
    [(1, 0, 1, 1), (2, 1, 1, 2), (3, 2, 2, 1), (1, 3, 3, 2), (4, 0, 3, 1)],
)
def test_convolution_matches_a_loop(stride, pad, dilation, group):
    settings = (
        f"convolution_param {{ num_output: 6 kernel_h: 3 kernel_w: 2 stride: {stride} pad: {pad} "
        f"dilation: {dilation} group: {group} {FILLERS} }}"
    )
    x = draw(2, 4, 6, 7)
    layer = build("Convolution", settings, tuple(x.shape))
    weight, bias = layer.blobs
    assert weight.shape == (6, 4 // group, 3, 2)
    with torch.no_grad():
        y = layer(x)
        want = naive_conv(x, weight, bias, stride, pad, dilation, group)
    torch.testing.assert_close(y, want, rtol=1e-5, atol=1e-5)


def test_a_kernel_that_sticks_out_by_less_than_a_stride_makes_one_output():
    settings = f"convolution_param {{ num_output: 2 kernel_size: 5 stride: 3 {FILLERS} }}"
    x = draw(1, 3, 4, 3)
    layer = build("Convolution", settings, tuple(x.shape))
    with torch.no_grad():
        y, want = layer(x), naive_conv(x, *layer.blobs, 3, 0, 1, 1)
    assert y.shape == (1, 2, 1, 1)
    torch.testing.assert_close(y, want)
    assert layer.top_shapes((1, 3, 4, 3)) == ((1, 2, 1, 1),)
    with pytest.raises(ShapeError, match=r"makes sizes \[0, 1\] out of \[2, 4\]"):
        layer.top_shapes((1, 3, 2, 4))


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_any_axis_and_number_of_spatial_axes(axis, rank):
    shape = (*(2, 3)[:axis], 4, *(5, 6, 4)[:rank])
    fillers = FILLERS.replace("xavier", "uniform")  # xavier takes at most 4 axes
    settings = f"convolution_param {{ num_output: 6 axis: {axis} kernel_size: 2 {fillers} }}"
    for layer_type in ("Convolution", "Deconvolution"):
        layer = build(layer_type, settings, shape)
        x = draw(*shape)
        y = layer(x)
        assert (tuple(y.shape),) == layer.top_shapes(shape)
        flat = x.reshape(-1, *shape[axis:])
        other = build(layer_type, settings.replace(f"axis: {axis}", ""), tuple(flat.shape))
        torch.testing.assert_close(y, other(flat).reshape(y.shape))


def test_convolution_keeps_channels_last():
    settings = "convolution_param { num_output: 8 kernel_size: 3 pad: 1 }"
    layer = build("Convolution", settings, (2, 4, 6, 5)).to(memory_format=torch.channels_last)
    y = layer(draw(2, 4, 6, 5).to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("group", [1, 2])
def test_deconvolution_is_the_input_gradient_of_convolution(group):
    settings = (
        f"convolution_param {{ num_output: 6 kernel_size: 3 stride: 2 pad: 1 dilation: 2 "
        f"group: {group} bias_term: false {FILLERS} }}"
    )
    x = draw(2, 4, 5, 3)
    layer = build("Deconvolution", settings, tuple(x.shape))
    assert layer.blobs[0].shape == (4, 6 // group, 3, 3)
    y = layer(x)
    assert (tuple(y.shape),) == layer.top_shapes(tuple(x.shape))
    source = torch.zeros(y.shape, requires_grad=True)
    conv = torch.nn.functional.conv2d(
        source, layer.blobs[0], stride=2, padding=1, dilation=2, groups=group
    )
    (want,) = torch.autograd.grad(conv, source, x)
    torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-5)


def test_several_bottoms_share_the_weights():
    settings = f"convolution_param {{ num_output: 2 kernel_size: 1 {FILLERS} }}"
    layer = build("Convolution", settings, (1, 3, 4, 5), (1, 3, 4, 5), tops=2)
    x, y = draw(1, 3, 4, 5), draw(1, 3, 4, 5, seed=1)
    first, second = layer(x, y)
    torch.testing.assert_close(first, build("Convolution", settings, (1, 3, 4, 5))(x))
    torch.testing.assert_close(second, build("Convolution", settings, (1, 3, 4, 5))(y))


def test_im2col_times_the_weights_is_the_convolution():
    settings = (
        f"convolution_param {{ num_output: 5 kernel_h: 3 kernel_w: 2 stride: 2 pad: 1 {FILLERS} }}"
    )
    x = draw(2, 4, 6, 7)
    layer = build("Convolution", settings, tuple(x.shape))
    columns = build("Im2col", settings, tuple(x.shape))(x)
    weight, bias = layer.blobs
    want = torch.einsum("ok,nkhw->nohw", weight.flatten(1), columns) + bias[:, None, None]
    torch.testing.assert_close(layer(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer_type", ["Convolution", "Deconvolution", "Im2col"])
def test_gradient(layer_type):
    settings = (
        f"convolution_param {{ num_output: 4 kernel_size: 2 stride: 2 pad: 1 group: 2 {FILLERS} }}"
    )
    layer = build(layer_type, settings, (1, 2, 4, 3)).double()
    x = draw(1, 2, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *blobs: layer(x), (x, *layer.blobs))


def test_blobs_in_the_message_replace_the_fillers():
    settings = 'convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "magic" } }'
    layer = build("Convolution", "blobs {} blobs {} " + settings, (1, 3, 4, 5))
    assert not any(blob.any() for blob in layer.blobs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "num_output: 4 kernel_size: 1 group: 3",
            "channels must be a multiple of group 3, got 4",
        ),
        (
            "num_output: 5 kernel_size: 1 group: 2",
            "must be a multiple of group 2, got 5",
        ),
        ("num_output: 5 kernel_size: 1 group: 0", "group must be positive, got 0"),
        ("num_output: 5", "kernel_size is missing"),
        ("num_output: 5 kernel_size: 0", r"kernel size must be positive, got \[0, 0\]"),
        ("num_output: 5 kernel_h: 3", "kernel_w is missing; give kernel_h and kernel_w"),
        ("num_output: 5 kernel_size: 3 kernel_h: 3", "either kernel_size or kernel_h and kernel_w"),
        ("num_output: 5 kernel_size: 3 stride: 0", r"stride must be positive, got \[0, 0\]"),
        ("num_output: 5 kernel_size: [1, 2, 3]", r"one per spatial axis \(2\), got \[1, 2, 3\]"),
        ("kernel_size: 3", "num_output must be positive, got 0"),
        ("num_output: 5 kernel_size: 3 axis: 4", "axis 4 is out of range"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(LayerParamError, match=message):
        build("Convolution", f"convolution_param {{ {settings} }}", (2, 4, 6, 5))


def test_shape_refusals():
    settings = "convolution_param { num_output: 5 kernel_size: 3 }"
    with pytest.raises(ShapeError, match="as many tops as bottoms"):
        build("Convolution", settings, (2, 4, 6, 5), (2, 4, 6, 5))
    with pytest.raises(ShapeError, match="all bottoms must have the same shape"):
        build("Convolution", settings, (2, 4, 6, 5), (2, 4, 5, 6), tops=2)
    with pytest.raises(ShapeError, match="4 axes and 4 channels"):
        build("Convolution", settings, (2, 4, 6, 5)).top_shapes((2, 3, 6, 5))
