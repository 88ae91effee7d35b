"""ReLU6: y = min(max(x, 0) + negative_slope * min(x, 0), 6).

Spec: other-forks.md section 2. From chuanqi305's MobileNetv2-SSDLite and eric612. A ReLU with
`relu6: true`, as in nets converted from TensorFlow, is the same.
Quirk: at exactly 6 the gradient is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer

LIMIT = 6.0


class _Capped(torch.autograd.Function):
    """min(x, 6), whose gradient at 6 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x < LIMIT)
        return x.clamp(max=LIMIT)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (below,) = ctx.saved_tensors
        return grads[0].where(below, 0)


class ReLU6(Layer):
    """The layer; any shape.

    Args:
        negative_slope: factor of the values below zero.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, negative_slope: float = 0.0) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, bottom: Tensor) -> Tensor:
        slope = self.negative_slope
        y = F.relu(bottom) if slope == 0 else F.leaky_relu(bottom, slope)
        if not torch.is_grad_enabled():
            return y.clamp(max=LIMIT)
        top: Tensor = _Capped.apply(y)  # type: ignore[no-untyped-call]
        return top


@register_layer("ReLU6")
def _build(spec: LayerSpec) -> ReLU6:
    return ReLU6(negative_slope=spec.param.relu6_param.negative_slope)


@register_layer("ReLU", when=lambda param: param.relu_param.relu6, told_by="relu6: true")
def _build_field(spec: LayerSpec) -> ReLU6:
    return ReLU6(negative_slope=spec.param.relu_param.negative_slope)
