"""Normalize: divide by the L2 norm, then multiply by a learnt scale (conv4_3_norm of SSD).

Spec: ssd-layers.md section 5.
Quirk: eps is added to the sum of squares, under the root.
Quirk: the input's gradient takes the dot product of x and dy without the scale, so it is the true
    gradient only while all channels have the same scale. SSD models were trained with it.
Quirk: the scale's gradient is divided by the scale, so a scale of 0 gives NaN.

Shapes: N images, C channels, then any further axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from caffe_ssd.errors import ShapeError
from caffe_ssd.fillers import fill
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import FillerParameter

UNIT_SCALE = FillerParameter(type="constant", value=1)


def normalize(x: Tensor, scale: Tensor, *, across_spatial: bool, eps: float) -> Tensor:
    """Divide by the norm and multiply by the scale; autograd gives its true gradient.

    Args:
        x: [N, C, ...].
        scale: [C], or [] for one scale of all channels.
        across_spatial: one norm per image rather than one per position.
        eps: added to the sum of squares.

    Returns:
        [N, C, ...].
    """
    return x / _norm(x, across_spatial=across_spatial, eps=eps) * _spread(scale, x)


class Normalize(Layer):
    """The layer; blob 0 is the scale.

    Args:
        scale: its initial value, [C] or [].
        across_spatial: see `normalize`.
        eps: see `normalize`.
        exact_gradient: learn with the true gradient instead of the reference's.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(
        self, scale: Tensor, *, across_spatial: bool, eps: float, exact_gradient: bool = False
    ) -> None:
        super().__init__()
        self.across_spatial = across_spatial
        self.eps = eps
        self.exact_gradient = exact_gradient
        self.blobs.append(nn.Parameter(scale))

    def forward(self, bottom: Tensor) -> Tensor:
        (scale,) = self.blobs
        if self.exact_gradient or not torch.is_grad_enabled():
            return normalize(bottom, scale, across_spatial=self.across_spatial, eps=self.eps)
        top: Tensor = _ReferenceNormalize.apply(  # type: ignore[no-untyped-call]
            bottom, scale, self.across_spatial, self.eps
        )
        return top


class _ReferenceNormalize(Function):
    """`normalize` with the reference's backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, across_spatial: bool, eps: float) -> Tensor:
        norm = _norm(x, across_spatial=across_spatial, eps=eps)
        ctx.save_for_backward(x, scale, norm)
        ctx.axes = _axes(x, across_spatial)
        return x / norm * _spread(scale, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, scale, norm = ctx.saved_tensors
        factor = _spread(scale, x)
        dx = dscale = None
        product = x * dy
        if ctx.needs_input_grad[0]:
            dot = product.sum(ctx.axes, keepdim=True)
            dx = factor * (dy - x * dot / norm.square()) / norm
        if ctx.needs_input_grad[1]:
            kept = [axis for axis in range(x.dim()) if not (axis == 1 and scale.dim())]
            dscale = (product / norm * factor).sum(kept) / scale
        return dx, dscale, None, None


def _axes(x: Tensor, across_spatial: bool) -> tuple[int, ...]:
    return tuple(range(1, x.dim())) if across_spatial else (1,)


def _norm(x: Tensor, *, across_spatial: bool, eps: float) -> Tensor:
    return (x.square().sum(_axes(x, across_spatial), keepdim=True) + eps).sqrt()


def _spread(scale: Tensor, x: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (x.dim() - 2)) if scale.dim() else scale


@register_layer("Normalize")
def _build(spec: LayerSpec) -> Normalize:
    (bottom,) = spec.bottoms
    if len(bottom) < 2:
        raise ShapeError(
            f"bottom 0 must have at least 2 axes (N, C, ...), got shape {list(bottom)}"
        )
    param = spec.param.norm_param
    filler = param.scale_filler if param.HasField("scale_filler") else UNIT_SCALE
    return Normalize(
        fill(() if param.channel_shared else (bottom[1],), filler, spec.runtime.rng),
        across_spatial=param.across_spatial,
        eps=param.eps,
    )
