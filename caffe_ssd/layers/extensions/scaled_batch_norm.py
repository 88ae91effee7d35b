"""BatchNorm with `scale_bias`: the original's BatchNorm with a Scale inside.

Spec: other-forks.md section 9.3. From NVCaffe; scale_filler or bias_filler alone mean it, too.
Quirk: eps is at least 1e-5.

Shapes: N items, C channels, then any sizes.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.batch_norm import BatchNorm, uses_global_stats
from caffe_ssd.layers.common import check_channels, constant, learnt_blobs
from caffe_ssd.layers.registry import LayerSpec, register_layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import BatchNormParameter, LayerParameter

LEAST_EPS = 1e-5


class ScaledBatchNorm(BatchNorm):
    """The layer; blobs 0..2 are BatchNorm's, 3 is the scale (C,), 4 the bias (C,)."""

    def normalize(
        self,
        bottom: Tensor,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        *,
        context: RunContext | None = None,
    ) -> Tensor:
        own_weight, own_bias = self.blobs[3], self.blobs[4]
        if weight is not None:
            own_weight, own_bias = own_weight * weight, own_bias * weight
        if bias is not None:
            own_bias = own_bias + bias
        return super().normalize(bottom, own_weight, own_bias, context=context)

    def channel_affine(self) -> tuple[Tensor, Tensor] | None:
        affine = super().channel_affine()
        if affine is None:
            return None
        scale, shift = affine
        weight, bias = self.blobs[3].detach(), self.blobs[4].detach()
        return scale * weight, shift * weight + bias


def has_scale(param: BatchNormParameter) -> bool:
    """Whether the settings mean this layer."""
    return param.scale_bias or param.HasField("scale_filler") or param.HasField("bias_filler")


def _is_meant(param: LayerParameter) -> bool:
    return has_scale(param.batch_norm_param)


@register_layer("BatchNorm", when=_is_meant, told_by="scale_bias, scale_filler or bias_filler")
def _build(spec: LayerSpec) -> ScaledBatchNorm:
    param = spec.param.batch_norm_param
    channels = check_channels(spec.bottoms[0])
    layer = ScaledBatchNorm(
        channels=channels,
        use_global_stats=uses_global_stats(spec),
        eps=max(param.eps, LEAST_EPS),
        moving_average_fraction=param.moving_average_fraction,
    )
    scale = param.scale_filler if param.HasField("scale_filler") else constant(1)
    bias = param.bias_filler if param.HasField("bias_filler") else constant(0)
    layer.blobs.extend(learnt_blobs(spec, ((channels,), scale), ((channels,), bias)))
    return layer
