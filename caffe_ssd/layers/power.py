"""Power: (shift + scale * x) ^ power.

Spec: caffe-layers.md section D.
Quirk: if power * scale is 0 the result is constant and without gradient.
Quirk: for powers other than 1 and 2 the gradient is power * y / (shift + scale * x), NaN where the
denominator is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer


class _Power(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: Tensor, power: float) -> Tensor:
        y = base.pow(power)
        ctx.save_for_backward(base, y)
        ctx.power = power
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        base, y = ctx.saved_tensors
        return grads[0] * (ctx.power * y / base), None


def power(x: Tensor, *, power: float, scale: float, shift: float) -> Tensor:
    """(shift + scale * x) ^ power; see the module for the gradient."""
    if power * scale == 0:
        return torch.full_like(x, shift).pow(power)
    base = x if scale == 1 else x * scale
    base = base if shift == 0 else base + shift
    if power == 1:
        return base.view_as(base)
    if power == 2:
        return base.square()
    y: Tensor = _Power.apply(base, power)  # type: ignore[no-untyped-call]
    return y


class Power(Layer):
    """The layer; any shape.

    Args:
        power, scale, shift: see `power`.
    """

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def __init__(self, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.power = power
        self.scale = scale
        self.shift = shift

    def forward(self, bottom: Tensor) -> Tensor:
        return power(bottom, power=self.power, scale=self.scale, shift=self.shift)


@register_layer("Power")
def _build(spec: LayerSpec) -> Power:
    param = spec.param.power_param
    return Power(power=param.power, scale=param.scale, shift=param.shift)
