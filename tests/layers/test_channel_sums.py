"""Sums over images with channels innermost are as exact as over others; plain ones are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffe_ssd.layers.batch_norm import batch_norm_train
from caffe_ssd.layers.channel_sums import gradient_sums, moments, sums_are_rough
from caffe_ssd.layers.run_context import Groups
from tests.layers.build import build, draw

LAST = torch.channels_last
EPS = 1e-5
EXACT = 1e-6  # of the largest channel's: some eight roundings
SHAPES = [
    pytest.param((4, 64, 60, 60), id="several parts of lists side by side"),
    pytest.param((2, 3, 80, 81), id="many lists side by side"),
    pytest.param((1, 5, 53, 53), id="no even number of lists"),
    pytest.param((3, 1500, 24, 24), id="more channels than lists side by side"),
    pytest.param((2, 1, 50, 40), id="one channel"),
]


def images(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Far from zero mean, with channels innermost."""
    spread = torch.linspace(0.5, 2, shape[1])[:, None, None]
    return (spread * (3 + draw(*shape, seed=seed))).contiguous(memory_format=LAST)


def exact_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    return x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)


def relative_error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
def test_moments(shape: tuple[int, ...]) -> None:
    x = images(shape)
    assert sums_are_rough(x)
    for found, exact in zip(moments(x), exact_moments(x), strict=True):
        assert found.dtype == torch.float32
        assert relative_error(found, exact) < EXACT


def test_a_plain_sum_is_rough() -> None:
    x = images((4, 64, 100, 100))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        native = torch.batch_norm_update_stats(x, None, None, 0.0)
    finally:
        torch.set_num_threads(threads)
    assert relative_error(native[1], exact_moments(x)[1]) > 5 * EXACT  # else why do it
    assert relative_error(moments(x)[1], exact_moments(x)[1]) < EXACT


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
def test_gradient_sums(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = images(shape)
    dy = (1 + draw(*shape, seed=1)).contiguous(memory_format=layout)
    mean, variance = moments(x)
    wide = [each.double()[:, None, None] for each in (mean, variance)]
    along = (dy * (x.double() - wide[0]) / (wide[1] + EPS).sqrt()).sum((0, 2, 3))
    exact = torch.stack([along, dy.double().sum((0, 2, 3))])
    found = gradient_sums(dy, x, mean, variance, EPS)
    for ours, theirs in zip(found, exact, strict=True):
        scale = dy.double().abs().sum() / shape[1]
        assert float((ours.double() - theirs).abs().max() / scale) < 1e-6


def test_few_positions_are_left_to_the_native_kernel() -> None:
    x = images((4, 8, 16, 16))
    assert not sums_are_rough(x)
    assert not sums_are_rough(images((4, 8, 60, 60)).contiguous())
    assert not sums_are_rough(images((4, 8, 60, 60)).double())


def trained(x: Tensor, dy: Tensor, groups: Groups | None = None) -> dict[str, Tensor]:
    """What a BatchNorm with scale and shift makes of x, forward and backward."""
    x = x.detach().requires_grad_()
    channels = x.shape[1]
    weight, bias = (draw(channels, seed=i).to(x.dtype).requires_grad_() for i in (2, 3))
    sums = [torch.zeros(size, dtype=x.dtype) for size in (channels, channels, 1)]
    y = batch_norm_train(
        x, *sums, weight, bias, eps=EPS, moving_average_fraction=0.9, groups=groups
    )
    y.backward(dy)
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    made = {"y": y.detach(), "dx": x.grad, "dweight": weight.grad, "dbias": bias.grad}
    return made | {"mean": sums[0], "variance": sums[1]}


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_batch_norm_is_as_exact_as_with_channels_outermost(shape: tuple[int, ...]) -> None:
    x, dy = images(shape), draw(*shape, seed=1).contiguous(memory_format=LAST)
    exact = trained(x.double().contiguous(), dy.double().contiguous())
    last, first = trained(x, dy), trained(x.contiguous(), dy.contiguous())
    assert last["y"].is_contiguous(memory_format=LAST)
    assert last["dx"].is_contiguous(memory_format=LAST)
    for name, want in exact.items():
        errors = [relative_error(made[name], want) for made in (last, first)]
        assert errors[0] < max(3 * errors[1], 1e-6), (name, errors)


def test_groups_are_passes_of_their_own_to_the_last_bit() -> None:
    x, dy = images((6, 16, 24, 24)), images((6, 16, 24, 24), seed=1)
    together = trained(x, dy, Groups(devices=(0, 0, 0)))
    apart = [trained(*each) for each in zip(x.chunk(3), dy.chunk(3), strict=True)]
    for name in ("y", "dx"):
        assert torch.equal(together[name], torch.cat([each[name] for each in apart]))
        assert together[name].is_contiguous(memory_format=LAST)
    for name in ("dweight", "dbias"):
        want = sum(each[name] for each in apart)
        torch.testing.assert_close(together[name], want, rtol=1e-6, atol=1e-4)
    for name in ("mean", "variance"):
        want = sum(each[name] * 0.9**i for i, each in enumerate(reversed(apart)))
        torch.testing.assert_close(together[name], want, rtol=1e-6, atol=1e-6)


def test_the_other_batch_normalisation() -> None:
    layer = build("BN", "bn_param { momentum: 0.0 }", (2, 3, 40, 40), phase="TRAIN")
    layer.blobs[0].data.fill_(2)
    x = images((2, 3, 40, 40))
    want = (x.double() - exact_moments(x)[0][:, None, None]) / (
        exact_moments(x)[1][:, None, None] + layer.eps
    ).sqrt()
    slope, bias = (blob.detach().double() for blob in layer.blobs[:2])
    assert relative_error(layer(x).detach(), slope * want + bias) < 1e-6
    for blob, exact in zip(layer.blobs[2:], exact_moments(x), strict=True):
        assert relative_error(blob.detach().flatten(), exact) < EXACT


def test_numbers_that_are_not_finite_stay_in_their_channel() -> None:
    x = images((2, 4, 40, 40))
    x[1, 2, 3, 4] = torch.nan
    made = trained(x, torch.ones_like(x))
    for name in ("y", "dx"):
        bad = made[name].isnan().flatten(2).all(2).all(0)
        assert bad.tolist() == [False, False, True, False]
        assert made[name][:, [0, 1, 3]].isfinite().all()
