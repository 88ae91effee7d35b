"""Batch normalisation by the statistics of all devices' batches together; see `batch_norm`.

The original has no such thing: there every device normalises by its own batch.

Each direction exchanges one small tensor. Forward: every device's count, mean and variance per
channel, joined without the cancellation that sums of squares suffer. Backward: the two sums per
channel that the gradient needs, so that

    dx = (dy - mean(dy) - y * mean(dy * y)) / sqrt(variance + eps)

with means over the elements of all devices. This is the gradient of the sum of all devices' losses;
those of `weight` and `bias` are the device's own share, as for any other blob.

Shapes: N items, C channels, then any sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.layers.peers import Peers


@dataclass(frozen=True, kw_only=True)
class BatchStatistics:
    """What all devices' batches look like per channel.

    Args:
        mean: (C).
        variance: (C), biased.
        count: (1), elements per channel.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    @property
    def unbiased_variance(self) -> Tensor:
        """(C); that of a single element is its biased one, 0."""
        return self.variance * (self.count / (self.count - 1).clamp(min=1))


def joint_statistics(x: Tensor, peers: Peers) -> BatchStatistics:
    """The statistics of x, (N, C, ...), and of everybody else's x."""
    with torch.no_grad():
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        count = mean.new_full((1,), x.numel() // x.shape[1])
        table = peers.gather(torch.cat([count, mean, variance]))
        counts, means, variances = torch.split(table, [1, len(mean), len(mean)], dim=1)
        total = counts.sum(0)
        share = counts / total
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean).square())).sum(0)
        return BatchStatistics(mean=mean, variance=variance, count=total)


def synced_batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: BatchStatistics,
    *,
    eps: float,
    peers: Peers,
) -> Tensor:
    """Normalise x by the joint statistics, of which the gradient knows that they depend on x.

    Args:
        x: (N, C, ...).
        weight: (C), multiplied to the result; None for 1.
        bias: (C), added to the result; None for 0.
        statistics: of `joint_statistics(x, peers)`.
        eps: added to the variance.
        peers: must all run the backward pass, too, if one does.
    """
    y: Tensor = _SyncedBatchNorm.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, statistics, eps, peers
    )
    return y


class _SyncedBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: BatchStatistics,
        eps: float,
        peers: Peers,
    ) -> Tensor:
        mean, variance = statistics.mean, statistics.variance
        ctx.eps, ctx.peers = eps, peers
        ctx.save_for_backward(x, weight, mean, variance, statistics.count)
        return _normalized(x, weight, bias, mean, variance, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        (dy,) = grads
        wanted = ctx.needs_input_grad
        _, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        dx = None
        if wanted[0]:
            sums = ctx.peers.total(torch.cat([dweight, dbias]))
            along, level = (sums / count).chunk(2)
            slope = (variance + ctx.eps).rsqrt()
            slope = slope if weight is None else slope * weight
            # slope * (dy - level - y * along), in one new tensor
            dx = _normalized(x, -slope * along, -slope * level, mean, variance, ctx.eps)
            dx.addcmul_(dy, slope.view(-1, *[1] * (x.dim() - 2)))
        return dx, dweight if wanted[1] else None, dbias if wanted[2] else None, None, None, None


def _normalized(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> Tensor:
    """weight * (x - mean) / sqrt(variance + eps) + bias, in one native pass."""
    return torch.batch_norm(
        x, weight, bias, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled
    )
