"""Sums over all elements of a channel, exact to the last digits in every layout.

PyTorch's CPU kernels for float32 images with channels outermost add up in float64. Those for
channels innermost have one sum per channel and thread, in float32, which loses digits with every
position. They are fast, however, so here they add up short lists, whose sums are joined in float64:

    x as it lies in memory    positions x C
    seen as                   positions / G x G * C     G lists per channel, side by side
    cut into                  parts of a few hundred rows

How means and variances of lists become those of all: Chan, Golub, LeVeque, "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances", 1979, equation 2.1.

Shapes: N items, C channels, then any sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_ROWS = 512  # of a part: so many numbers are added up in float32
_FEW = 1024  # positions that are left to the native kernel
_WIDTH = 1024  # of a row: the sums of so many lists stay in a core's first cache


def sums_are_rough(x: Tensor) -> bool:
    """Whether the native kernels for batch normalisation lose digits of the sums over x."""
    return (
        not x.is_cuda
        and x.dtype == torch.float32
        and x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > _FEW * x.shape[1]
        and not torch.compiler.is_compiling()  # which has no use for the kernels
    )


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, (C,) each, without gradients."""
    with torch.no_grad():
        if not sums_are_rough(x):
            mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
            return mean, variance
        parts = _parts(x)
        found = [torch.batch_norm_update_stats(part, None, None, 0.0) for part in parts]
        means, variances = (
            torch.cat(each).view(-1, x.shape[1]).double() for each in zip(*found, strict=True)
        )
        share = _shares(parts, len(means))
        # Not as products of matrices, which -bf16 might round.
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        return mean.to(x.dtype), variance.to(x.dtype)


def gradient_sums(dy: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    """The sums of dy * (x - mean) / sqrt(variance + eps) and of dy over each channel, (2, C).

    Args:
        dy: shaped like x.
        x: (N, C, ...).
        mean: (C,).
        variance: (C,).
        eps: added to the variance.
    """
    if not sums_are_rough(x):
        return _native_gradient_sums(dy, x, mean, variance, eps)
    channels = x.shape[1]
    dy = dy.contiguous(memory_format=torch.channels_last)
    pairs = list(zip(*(_parts(each) for each in (dy, x)), strict=True))
    lists = pairs[0][0].shape[1] // channels
    mean, variance = mean.repeat(lists), variance.repeat(lists)
    found = [_native_gradient_sums(a, b, mean, variance, eps) for a, b in pairs]
    sums = torch.cat(found, 1).view(2, -1, channels).sum(1, dtype=torch.float64)
    return sums.to(x.dtype)


def _native_gradient_sums(
    dy: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    _, along, level = torch.ops.aten.native_batch_norm_backward(
        dy, x, None, mean, variance, None, None, False, eps, [False, True, True]
    )
    return torch.stack([along, level])


def _parts(x: Tensor) -> tuple[Tensor, ...]:
    """Views of x, (rows, G * C) each."""
    positions = x.movedim(1, -1).flatten(0, -2)
    most = max(1, min(_WIDTH // x.shape[1], len(positions) // _ROWS))
    lists = next(n for n in range(most, 0, -1) if len(positions) % n == 0)
    rows = positions.view(-1, lists * x.shape[1])
    return torch.chunk(rows, max(1, round(len(rows) / _ROWS)))


def _shares(parts: Sequence[Tensor], lists: int) -> Tensor:
    """The part of all elements that each list has, (lists, 1), in float64."""
    rows = torch.tensor([len(part) for part in parts for _ in range(lists // len(parts))])
    return (rows / rows.sum(dtype=torch.float64))[:, None]
