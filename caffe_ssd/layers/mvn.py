"""MVN: take the mean off each plane or item, and divide by the standard deviation.

Spec: caffe-layers.md section C.
Quirk: eps is added to the standard deviation, not to the variance, and the gradient leaves that out
of account, so it is exact for a negligible eps only.
Quirk: the top always has 4 axes.

Shapes: N items, C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        deviation = centred.square().mean(axes, keepdim=True).sqrt() + eps
        y = centred / deviation
        ctx.axes = axes
        ctx.save_for_backward(y, deviation)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        y, deviation = ctx.saved_tensors
        (dy,) = grads
        mean = dy.mean(ctx.axes, keepdim=True)
        along = (dy * y).mean(ctx.axes, keepdim=True)
        return (dy - mean - y * along) / deviation, None, None


def mean_variance_normalize(
    x: Tensor, *, across_channels: bool, normalize_variance: bool, eps: float
) -> Tensor:
    """Normalise x, (N, C, H, W), per plane or across the channels of an item."""
    axes = (1, 2, 3) if across_channels else (2, 3)
    if not normalize_variance:
        return x - x.mean(axes, keepdim=True)
    y: Tensor = _Normalized.apply(x, axes, eps)  # type: ignore[no-untyped-call]
    return y


class MVN(Layer):
    """The layer; a bottom of fewer than 4 axes gets axes of size 1 at the end.

    Args:
        across_channels, normalize_variance, eps: see `mean_variance_normalize`.
    """

    def __init__(
        self,
        *,
        across_channels: bool = False,
        normalize_variance: bool = True,
        eps: float = 1e-9,
    ) -> None:
        super().__init__()
        self.across_channels = across_channels
        self.normalize_variance = normalize_variance
        self.eps = eps

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if len(bottom) > 4:
            raise ShapeError(f"bottom 0 must have at most 4 axes, got shape {list(bottom)}")
        return ((*bottom, *(1,) * (4 - len(bottom))),)

    def forward(self, bottom: Tensor) -> Tensor:
        (shape,) = self.top_shapes(tuple(bottom.shape))
        return mean_variance_normalize(
            bottom.reshape(shape),
            across_channels=self.across_channels,
            normalize_variance=self.normalize_variance,
            eps=self.eps,
        )


@register_layer("MVN")
def _build(spec: LayerSpec) -> MVN:
    param = spec.param.mvn_param
    layer = MVN(
        across_channels=param.across_channels,
        normalize_variance=param.normalize_variance,
        eps=param.eps,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
