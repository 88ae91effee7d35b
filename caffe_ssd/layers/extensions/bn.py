"""BN: batch normalisation with a scale and a shift, of two forks.

Spec: other-forks.md section 7. PSPNet's (hszhao, yjxiong, happynear) keeps running statistics;
SegNet's (alexgkendall) keeps none. The fields given tell which one is meant.
Quirk: in mode LEARN SegNet's normalises by the batch in both phases.
Quirk: PSPNet's running variance is the biased one, and its statistics are used as they are.
Quirk: PSPNet's with `frozen: true` learns nothing, in neither phase.

Shapes: N images, C channels, H, W; learnt blobs and statistics are (1, C, 1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.channel_sums import sums_are_rough
from caffe_ssd.layers.common import check_rank, constant, learnt_blobs
from caffe_ssd.layers.normalize_by import joint_statistics, normalize_by, own_statistics
from caffe_ssd.layers.peers import Peers, in_step
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import BNParameter

SEGNET_FIELDS = ("scale_filler", "shift_filler", "bn_mode")
PSPNET_FIELDS = ("slope_filler", "bias_filler", "frozen", "momentum", "eps")
SEGNET_EPS = 1e-9
NUM_SEGNET_BLOBS, NUM_PSPNET_BLOBS = 2, 4


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel, (1, C, 1, 1)."""
    mean = x.mean((0, 2, 3), keepdim=True)
    return mean, (x - mean).square().mean((0, 2, 3), keepdim=True)


class _ChannelLayer(Layer):
    """A layer over (N, C, H, W) with a fixed C.

    Args:
        channels: C.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        if bottom[1] != self.channels:
            raise ShapeError(
                f"bottom 0 must have {self.channels} channels, got shape {list(bottom)}"
            )
        return bottoms


class SegNetBN(_ChannelLayer):
    """SegNet's layer; blobs are scale and shift.

    Args:
        channels: C.
        normalizes: mode LEARN; else scale and shift alone.
        num_tops: 2 and 3 add the batch's mean and variance.
    """

    def __init__(self, *, channels: int, normalizes: bool = True, num_tops: int = 1) -> None:
        super().__init__(channels=channels)
        self.normalizes = normalizes
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = super().top_shapes(*bottoms)
        per_channel = (1, self.channels, 1, 1)
        return (bottom, per_channel, per_channel)[: self.num_tops]

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        scale, shift = self.blobs
        if not self.normalizes:
            return torch.addcmul(shift, scale, bottom)
        mean, variance = batch_statistics(bottom)
        top = scale * ((bottom - mean) / (variance + SEGNET_EPS).sqrt()) + shift
        tops = (top, mean.detach(), variance.detach())
        return top if self.num_tops == 1 else tops[: self.num_tops]

    def channel_affine(self) -> tuple[Tensor, Tensor] | None:
        """Scale and shift per channel, (C,), where the layer is nothing else."""
        scale, shift = (blob.detach().reshape(-1) for blob in self.blobs)
        return None if self.normalizes else (scale, shift)


class PSPNetBN(_ChannelLayer):
    """PSPNet's layer; blobs are slope, bias, running mean and running variance.

    Args:
        channels: C.
        is_train: normalise by the batch, unless frozen.
        frozen: use the running statistics in both phases, and learn nothing.
        eps: added to the variance.
        momentum: share of the old running statistics that is kept.

    Attributes:
        peers: devices to share batch statistics with while all are in step; None: none.
    """

    peers: Peers | None = None

    def __init__(
        self,
        *,
        channels: int,
        is_train: bool,
        frozen: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(channels=channels)
        self.by_batch = is_train and not frozen
        self.frozen = frozen
        self.statistics = range(4) if frozen else range(2, 4)
        self.eps = eps
        self.momentum = momentum

    def forward(self, bottom: Tensor) -> Tensor:
        slope, bias, mean, variance = (blob.reshape(-1) for blob in self.blobs)
        if self.frozen:
            slope, bias = slope.detach(), bias.detach()
        cudnn = torch.backends.cudnn.enabled
        if not self.by_batch:
            return torch.batch_norm(
                bottom, slope, bias, mean.detach(), variance.detach(), False, 0.0, self.eps, cudnn
            )
        peers = in_step(self.peers)
        if peers is not None or sums_are_rough(bottom):
            found = own_statistics(bottom) if peers is None else joint_statistics(bottom, peers)
            self._keep(found.mean, found.variance)
            return normalize_by(found, bottom, slope, bias, eps=self.eps, peers=peers)
        with torch.no_grad():
            new_mean, new_variance = batch_statistics(bottom)
            self._keep(new_mean, new_variance)
        return torch.batch_norm(bottom, slope, bias, None, None, True, 0.0, self.eps, cudnn)

    def running_state(self) -> Sequence[Tensor]:
        return (self.blobs[2], self.blobs[3]) if self.by_batch else ()

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch."""
        for blob, new in zip((self.blobs[2], self.blobs[3]), (mean, variance), strict=True):
            blob.mul_(self.momentum).add_(new.reshape(blob.shape), alpha=1 - self.momentum)

    def channel_affine(self) -> tuple[Tensor, Tensor] | None:
        """Scale and shift per channel, (C,), where the layer is nothing else."""
        if self.by_batch:
            return None
        slope, bias, mean, variance = (blob.detach().reshape(-1) for blob in self.blobs)
        scale = slope * (variance + self.eps).rsqrt()
        return scale, bias - mean * scale


@register_layer("BN", tops=range(1, 4))
def _build(spec: LayerSpec) -> Layer:
    check_rank(spec.bottoms[0], 4)
    return _build_segnet(spec) if _is_segnet(spec) else _build_pspnet(spec)


def _is_segnet(spec: LayerSpec) -> bool:
    param = spec.param.bn_param
    segnet = [name for name in SEGNET_FIELDS if param.HasField(name)]
    pspnet = [name for name in PSPNET_FIELDS if param.HasField(name)]
    if segnet and pspnet:
        raise LayerParamError(
            f"{segnet[0]} belongs to SegNet's BN, {pspnet[0]} to PSPNet's; give the fields of one"
        )
    if segnet or pspnet:
        return bool(segnet)
    count = len(spec.param.blobs)
    if count not in (NUM_SEGNET_BLOBS, NUM_PSPNET_BLOBS):
        raise LayerParamError(
            "an empty bn_param may mean SegNet's BN (2 learnt blobs) or PSPNet's (4); say which by "
            "bn_param { bn_mode: LEARN } or bn_param { momentum: 0.9 }"
        )
    return count == NUM_SEGNET_BLOBS


def _build_segnet(spec: LayerSpec) -> SegNetBN:
    param = spec.param.bn_param
    normalizes = param.bn_mode == BNParameter.LEARN
    if spec.num_tops > 1 and not normalizes:
        raise ShapeError("mean and variance as further tops need bn_mode: LEARN")
    channels = spec.bottoms[0][1]
    layer = SegNetBN(channels=channels, normalizes=normalizes, num_tops=spec.num_tops)
    shape = (1, channels, 1, 1)
    layer.blobs.extend(learnt_blobs(spec, (shape, param.scale_filler), (shape, param.shift_filler)))
    return layer


def _build_pspnet(spec: LayerSpec) -> PSPNetBN:
    param = spec.param.bn_param
    if spec.num_tops > 1:
        raise ShapeError(f"PSPNet's BN takes 1 top, got {spec.num_tops}")
    channels = spec.bottoms[0][1]
    layer = PSPNetBN(
        channels=channels,
        is_train=spec.is_train,
        frozen=param.frozen,
        eps=param.eps,
        momentum=param.momentum,
    )
    shape = (1, channels, 1, 1)
    fillers = (param.slope_filler, param.bias_filler, constant(0), constant(int(param.frozen)))
    layer.blobs.extend(learnt_blobs(spec, *((shape, filler) for filler in fillers)))
    for i in layer.statistics:
        layer.blobs[i].requires_grad_(False)
    return layer
