"""Batch normalisation of several passes at once, each by its own statistics; see `batch_norm`.

The native kernels run once per group, on views of the whole batch, and write into views of the
result, so that no copy is made, unless their sums are too rough (channel_sums.py). Every group's
numbers are those of a pass of its own to the last bit.

Shapes: N items, C channels, then any sizes; G groups, which divide N.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.layers.channel_sums import sums_are_rough
from caffe_ssd.layers.normalize_by import normalize_by, own_statistics

_aten = torch.ops.aten


def grouped_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, num_groups: int, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise each group by its own mean and biased variance.

    Args:
        x: (N, C, ...).
        weight: (C), multiplied to the result; None for 1.
        bias: (C), added to the result; None for 0.
        num_groups: G.
        eps: added to the variance.

    Returns:
        The normalised x, and each group's mean and unbiased variance, (G, C), without gradients.
    """
    if sums_are_rough(x[: len(x) // num_groups]):
        found = own_statistics(x, num_groups)
        y = normalize_by(found, x, weight, bias, eps=eps)
        return y, found.mean, found.unbiased_variance
    single = x.numel() == num_groups * x.shape[1]
    centred = x - x.detach() if single else x  # exactly 0, or the small eps blows up its rounding
    y, mean, variance = _GroupedBatchNorm.apply(  # type: ignore[no-untyped-call]
        centred, weight, bias, num_groups, eps
    )
    if single:  # the unbiased variance of one element is 0 / 0
        return y, x.detach().reshape(mean.shape).to(mean), torch.zeros_like(variance)
    return y, mean, variance


class _GroupedBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        num_groups: int,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.empty_like(x)
        # Half precision images have statistics in single precision, as in the native call.
        dtype = torch.promote_types(x.dtype, torch.float32)
        rows = x.new_zeros(4, num_groups, x.shape[1], dtype=dtype)
        mean, variance, saved_mean, saved_scale = rows
        for i, (part, out) in enumerate(_parts(num_groups, x, y)):
            # Momentum 1 makes the kernel add the mean and the unbiased variance themselves to 0.
            _aten.native_batch_norm.out(
                *(part, weight, bias, mean[i], variance[i], True, 1.0, eps),
                out=out,
                save_mean=saved_mean[i],
                save_invstd=saved_scale[i],
            )
        ctx.eps = eps
        ctx.save_for_backward(x, weight, saved_mean, saved_scale)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, saved_mean, saved_scale = ctx.saved_tensors
        num_groups = len(saved_mean)
        wanted = ctx.needs_input_grad[:3]
        dx = torch.empty_like(x)
        sums = saved_mean.new_zeros(2, num_groups, x.shape[1])
        for i, (part, dy, out) in enumerate(_parts(num_groups, x, grads[0], dx)):
            found = _aten.native_batch_norm_backward(
                *(dy, part, weight, None, None, saved_mean[i], saved_scale[i]),
                *(True, ctx.eps, wanted),
            )
            for place, gradient in zip((out, sums[0, i], sums[1, i]), found, strict=True):
                if gradient is not None:
                    place.copy_(gradient)
        dweight, dbias = sums.sum(1)
        return (
            dx if wanted[0] else None,
            dweight if wanted[1] else None,
            dbias if wanted[2] else None,
            None,
            None,
        )


def _parts(num_groups: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The groups' parts of the tensors, as views."""
    size = len(tensors[0]) // num_groups
    return list(zip(*(torch.split(tensor, size) for tensor in tensors), strict=True))
