"""BatchNorm: normalise each channel by its mean and variance; no scale, no shift.

Spec: caffe-layers.md section C.
Quirk: the running statistics are sums that decay, divided by a third blob on use.
Quirk: the batch is normalised by its biased variance, the running variance is unbiased.
Quirk: with untrained statistics (factor 0) mean and variance are 0, so y = x / sqrt(eps).

Shapes: N items, C channels, then any sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.channel_sums import sums_are_rough
from caffe_ssd.layers.common import check_channels
from caffe_ssd.layers.grouped_batch_norm import grouped_batch_norm
from caffe_ssd.layers.normalize_by import joint_statistics, normalize_by, own_statistics
from caffe_ssd.layers.peers import Peers, in_step
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.layers.run_context import Groups, RunContext
from caffe_ssd.layers.running_sums import RunningSums, decay_and_add


def batch_norm_train(
    x: Tensor,
    mean_sum: Tensor,
    variance_sum: Tensor,
    factor: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float,
    moving_average_fraction: float,
    peers: Peers | None = None,
    groups: Groups | None = None,
    waiting: RunningSums | None = None,
) -> Tensor:
    """Normalise by the batch's statistics and add them to the running ones, in place.

    Args:
        x: (N, C, ...).
        mean_sum: (C,), blob 0; updated.
        variance_sum: (C,), blob 1; updated.
        factor: (1,), blob 2; updated.
        weight: (C,), multiplied to the result; None for 1.
        bias: (C,), added to the result; None for 0.
        eps: added to the variance.
        moving_average_fraction: what the running sums are multiplied by before the addition.
        peers: devices whose batches count as one with x; None: x alone, as in the original.
        groups: the passes that x consists of, each normalised by itself; None: x is one. `peers`
            are left out of account with it.
        waiting: takes what is to be added; None: it is added at once.

    Returns:
        Shaped like x.
    """
    sums = [mean_sum, variance_sum, factor]
    add = decay_and_add if waiting is None else waiting.put_off
    if groups is not None:
        y, means, variances = grouped_batch_norm(x, weight, bias, len(groups), eps=eps)
        counted = [i for i in range(len(groups)) if groups.keeps_statistics(i)]
        means, variances = _rows(means, counted), _rows(variances, counted)
        fraction = moving_average_fraction
        add(sums, _in_turn(means, variances, fraction), fraction ** len(counted))
        return y
    if peers is None and not sums_are_rough(x):
        mean, variance = torch.zeros_like(mean_sum), torch.zeros_like(variance_sum)
        y, mean, variance = _normalize_alone(x, mean, variance, weight, bias, eps)
    else:
        found = own_statistics(x) if peers is None else joint_statistics(x, peers)
        mean, variance = found.mean[0], found.unbiased_variance[0]
        y = normalize_by(found, x, weight, bias, eps=eps, peers=peers)
    add(sums, [mean, variance, torch.ones_like(factor)], moving_average_fraction)
    return y


def _rows(table: Tensor, numbers: Sequence[int]) -> Tensor:
    """Some rows, without sending their numbers to the device."""
    if len(numbers) == len(table):
        return table
    return torch.stack([table[i] for i in numbers]) if numbers else table[:0]


@cache
def _what_is_left(fraction: float, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """How much of what each of K passes adds is left behind the last, (K, 1); sent once."""
    left = [fraction**i for i in reversed(range(count))]
    return torch.tensor(left).to(device, dtype)[:, None]


@torch.no_grad()
def _in_turn(means: Tensor, variances: Tensor, fraction: float) -> list[Tensor]:
    """What K passes one after the other add to the running sums; (K, C) each."""
    shares = _what_is_left(fraction, len(means), means.device, means.dtype)
    # Not as a product of matrices, which -bf16 would round.
    return [(shares * means).sum(0), (shares * variances).sum(0), shares.sum(0)]


def _normalize_alone(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised x, its mean and its unbiased variance; the given ones are room for them."""
    single = x.numel() == x.shape[1]
    centred = x - x.detach() if single else x  # exactly 0, or the small eps blows up its rounding
    # Momentum 1 makes the kernel store the batch mean and unbiased variance themselves.
    y = torch.batch_norm(
        centred, weight, bias, mean, variance, True, 1.0, eps, torch.backends.cudnn.enabled
    )
    if single:  # the unbiased variance of one element is 0 / 0
        # Autograd has saved the room, so it must stay as it is.
        return y, x.detach().flatten().to(mean), torch.zeros_like(variance)
    return y, mean, variance


def batch_norm_global(
    x: Tensor,
    mean_sum: Tensor,
    variance_sum: Tensor,
    factor: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float,
) -> Tensor:
    """Normalise by the running statistics; arguments as in `batch_norm_train`, none updated."""
    mean, variance = running_statistics(mean_sum, variance_sum, factor)
    return torch.batch_norm(
        x, weight, bias, mean, variance, False, 0.0, eps, torch.backends.cudnn.enabled
    )


def running_statistics(
    mean_sum: Tensor, variance_sum: Tensor, factor: Tensor
) -> tuple[Tensor, Tensor]:
    """The running mean and variance, (C,) each, out of the three blobs."""
    with torch.no_grad():
        share = torch.where(factor == 0, 0.0, 1 / factor)
        return mean_sum * share, variance_sum * share


class BatchNorm(Layer):
    """The layer; blobs 0..2 are mean_sum (C,), variance_sum (C,) and factor (1,), all frozen.

    Args:
        channels: C.
        use_global_stats: normalise by the running statistics and leave them alone.
        eps: see `batch_norm_train`.
        moving_average_fraction: see `batch_norm_train`.

    Attributes:
        peers: devices to share batch statistics with while all are in step; None: none.
    """

    statistics = range(3)
    takes_context = True
    grouping = Grouping.ITSELF
    peers: Peers | None = None

    def __init__(
        self,
        *,
        channels: int,
        use_global_stats: bool,
        eps: float = 1e-5,
        moving_average_fraction: float = 0.999,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.use_global_stats = use_global_stats
        self.eps = eps
        self.moving_average_fraction = moving_average_fraction
        for size in (channels, channels, 1):
            self.blobs.append(nn.Parameter(torch.zeros(size), requires_grad=False))

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if check_channels(bottom) != self.channels:
            raise ShapeError(
                f"bottom 0 must have {self.channels} channels, got shape {list(bottom)}"
            )
        return bottoms

    def running_state(self) -> Sequence[Tensor]:
        return () if self.use_global_stats else tuple(self.blobs[i] for i in self.statistics)

    def forward(self, bottom: Tensor, context: RunContext | None = None) -> Tensor:
        return self.normalize(bottom, context=context)

    def normalize(
        self,
        bottom: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        context: RunContext | None = None,
    ) -> Tensor:
        """The layer followed by a scale and shift per channel; see `batch_norm_train`."""
        mean_sum, variance_sum, factor = self.blobs[0], self.blobs[1], self.blobs[2]
        if self.use_global_stats:
            return batch_norm_global(
                bottom, mean_sum, variance_sum, factor, weight, bias, eps=self.eps
            )
        return batch_norm_train(
            bottom,
            mean_sum,
            variance_sum,
            factor,
            weight,
            bias,
            eps=self.eps,
            moving_average_fraction=self.moving_average_fraction,
            peers=in_step(self.peers),
            groups=None if context is None else context.groups,
            waiting=None if context is None else context.sums,
        )

    def channel_affine(self) -> tuple[Tensor, Tensor] | None:
        """Scale and shift per channel, (C,), where the layer is nothing else."""
        if not self.use_global_stats:
            return None
        mean_sum, variance_sum, factor = (self.blobs[i].detach() for i in range(3))
        mean, variance = running_statistics(mean_sum, variance_sum, factor)
        scale = (variance + self.eps).rsqrt()
        return scale, -mean * scale


@register_layer("BatchNorm")
def _build(spec: LayerSpec) -> BatchNorm:
    param = spec.param.batch_norm_param
    for i, entry in enumerate(spec.param.param):
        if entry.lr_mult != 0:
            raise LayerParamError(
                f"the statistics cannot be learnt: lr_mult of param {i} must be 0, "
                f"got {entry.lr_mult:g}"
            )
    return BatchNorm(
        channels=check_channels(spec.bottoms[0]),
        use_global_stats=uses_global_stats(spec),
        eps=param.eps,
        moving_average_fraction=param.moving_average_fraction,
    )


def uses_global_stats(spec: LayerSpec) -> bool:
    """Whether a layer normalises by its running statistics."""
    param = spec.param.batch_norm_param
    return param.use_global_stats if param.HasField("use_global_stats") else not spec.is_train
