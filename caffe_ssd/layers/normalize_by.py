"""Batch normalisation by statistics that somebody else has computed; see `batch_norm`.

They may be those of all devices' batches together. The original has no such thing: there every
device normalises by its own batch. Each direction exchanges one small tensor. Forward: every
device's count, mean and variance per channel, joined without the cancellation that sums of squares
suffer. Backward: the two sums per channel that the gradient needs, so that

    dx = (dy - mean(dy) - y * mean(dy * y)) / sqrt(variance + eps)

with means over the elements of all devices. This is the gradient of the sum of all devices' losses;
those of `weight` and `bias` are the device's own share, as for any other blob.

They may be x's own, or those of each group of its items, where the native kernel's are too rough
(channel_sums.py).

Shapes: N items, C channels, then any sizes; G groups, which divide N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.layers.channel_sums import gradient_sums, moments
from caffe_ssd.layers.peers import Peers


@dataclass(frozen=True, kw_only=True)
class BatchStatistics:
    """What a batch looks like per channel, or each of its groups.

    Args:
        mean: (G, C).
        variance: (G, C), biased.
        count: (1), elements per channel and group.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    @property
    def unbiased_variance(self) -> Tensor:
        """(G, C); that of a single element is its biased one, 0."""
        return self.variance * (self.count / (self.count - 1).clamp(min=1))


def own_statistics(x: Tensor, num_groups: int = 1) -> BatchStatistics:
    """The statistics of x, (N, C, ...), or of each of its groups."""
    with torch.no_grad():
        found = [moments(part) for part in x.chunk(num_groups)]
        mean, variance = (torch.stack(each) for each in zip(*found, strict=True))
        count = mean.new_full((1,), x.numel() // mean.numel())
        return BatchStatistics(mean=mean, variance=variance, count=count)


def joint_statistics(x: Tensor, peers: Peers) -> BatchStatistics:
    """The statistics of x, (N, C, ...), and of everybody else's x as one group."""
    with torch.no_grad():
        own, channels = own_statistics(x), x.shape[1]
        table = peers.gather(torch.cat([own.count, own.mean[0], own.variance[0]]))
        counts, means, variances = torch.split(table, [1, channels, channels], dim=1)
        total = counts.sum(0)
        share = counts / total
        mean = (share * means).sum(0, keepdim=True)
        variance = (share * (variances + (means - mean).square())).sum(0, keepdim=True)
        return BatchStatistics(mean=mean, variance=variance, count=total)


def normalize_by(
    statistics: BatchStatistics,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float,
    peers: Peers | None = None,
) -> Tensor:
    """Normalise x by statistics, of which the gradient knows that they depend on x.

    Args:
        statistics: of x, or of all peers' x.
        x: (N, C, ...).
        weight: (C), multiplied to the result; None for 1.
        bias: (C), added to the result; None for 0.
        eps: added to the variance.
        peers: whose statistics they are; all must run the backward pass, too, if one does. None:
            x alone.
    """
    y: Tensor = _NormalizedBy.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, statistics, eps, peers
    )
    return y


class _NormalizedBy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: BatchStatistics,
        eps: float,
        peers: Peers | None,
    ) -> Tensor:
        means, variances = statistics.mean, statistics.variance
        ctx.eps, ctx.peers = eps, peers
        ctx.save_for_backward(x, weight, means, variances, statistics.count)
        parts = x.chunk(len(means))
        return _end_to_end(
            [
                _normalized(part, weight, bias, mean, variance, eps)
                for part, mean, variance in zip(parts, means, variances, strict=True)
            ]
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, variances, count = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        own, dx = [], []
        pairs = zip(*(each.chunk(len(means)) for each in (grads[0], x)), strict=True)
        for (dy, part), mean, variance in zip(pairs, means, variances, strict=True):
            sums = gradient_sums(dy, part, mean, variance, ctx.eps)
            own.append(sums)
            if wanted[0]:
                total = sums if ctx.peers is None else ctx.peers.total(sums)
                along, level = total / count
                slope = (variance + ctx.eps).rsqrt()
                slope = slope if weight is None else slope * weight
                # slope * (dy - level - y * along), in one new tensor
                part = _normalized(part, -slope * along, -slope * level, mean, variance, ctx.eps)
                dx.append(part.addcmul_(dy, slope.view(-1, *[1] * (x.dim() - 2))))
        dweight, dbias = own[0] if len(own) == 1 else torch.stack(own).sum(0)
        return (
            _end_to_end(dx) if wanted[0] else None,
            dweight if wanted[1] else None,
            dbias if wanted[2] else None,
            *(None, None, None),
        )


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


def _end_to_end(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
