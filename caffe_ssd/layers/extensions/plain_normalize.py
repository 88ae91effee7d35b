"""Normalize with `normalize_param`: divide by the norm over the channels; nothing is learnt.

Spec: other-forks.md section 8. From happynear; another layer than SSD's of the same name.
Quirk: the optional second top, the norms, has a gradient only with `bp_norm: true`.
Quirk: the gradient is the true one of y = x / norm but for the small constant in the norm.

Shapes: (N, C, H, W); norms are (N, 1, H, W).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer

LEAST = 1e-6


def norms(x: Tensor, *, absolute: bool) -> Tensor:
    """The norm over axis 1, which is kept: of L1 (absolute) or L2."""
    if absolute:
        return x.abs().sum(1, keepdim=True) + LEAST
    return (x.square().sum(1, keepdim=True) + LEAST).sqrt()


class _Normalized(torch.autograd.Function):
    """x / norm and the norm, with the fork's gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, absolute: bool, bp_norm: bool) -> tuple[Tensor, Tensor]:
        norm = norms(x, absolute=absolute)
        y = x / norm
        ctx.save_for_backward(y, norm)
        ctx.absolute, ctx.bp_norm = absolute, bp_norm
        return y, norm

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        y, norm = ctx.saved_tensors
        dy, dnorm = grads
        direction = y.sign() if ctx.absolute else y  # what the norm grows by with x
        dx = (dy - direction * (y * dy).sum(1, keepdim=True)) / norm
        if ctx.bp_norm:
            dx = dx + dnorm * direction
        return dx, None, None


class PlainNormalize(Layer):
    """The layer; one top, or the norms as a second.

    Args:
        absolute: the norm is L1 rather than L2.
        bp_norm: the second top has a gradient.
        num_tops: 1 or 2.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, absolute: bool = False, bp_norm: bool = False, num_tops: int = 1) -> None:
        super().__init__()
        self.absolute = absolute
        self.bp_norm = bp_norm
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        return (bottom, (bottom[0], 1, *bottom[2:]))[: self.num_tops]

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        tops: tuple[Tensor, Tensor] = _Normalized.apply(  # type: ignore[no-untyped-call]
            bottom, self.absolute, self.bp_norm
        )
        return tops if self.num_tops == 2 else tops[0]


@register_layer(
    "Normalize",
    tops=range(1, 3),
    when=lambda param: param.HasField("normalize_param"),
    told_by="normalize_param",
)
def _build(spec: LayerSpec) -> PlainNormalize:
    param = spec.param.normalize_param
    if spec.param.HasField("norm_param"):
        raise LayerParamError(
            "norm_param and normalize_param belong to different layers of this name; give one"
        )
    if param.normalize_type not in ("L1", "L2"):
        raise LayerParamError(f"normalize_type must be L1 or L2, got {param.normalize_type!r}")
    layer = PlainNormalize(
        absolute=param.normalize_type == "L1", bp_norm=param.bp_norm, num_tops=spec.num_tops
    )
    layer.top_shapes(*spec.bottoms)
    return layer
