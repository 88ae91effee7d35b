"""Exp: base ^ (shift + scale * x).

Spec: caffe-layers.md section D.
Quirk: base -1 stands for e.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class Exp(Layer):
    """The layer; any shape.

    Args:
        base: positive; None for e.
        scale, shift: of the exponent.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(
        self, *, base: float | None = None, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        super().__init__()
        log_base = 1.0 if base is None else math.log(base)
        self.inner = log_base * scale
        try:
            self.outer = math.exp(log_base * shift)
        except OverflowError:
            raise LayerParamError(f"base ^ shift is too large, shift is {shift:g}") from None

    def forward(self, bottom: Tensor) -> Tensor:
        return (bottom * self.inner).exp() * self.outer

    def backward_from_top(self, top: Tensor, diff: Tensor) -> Tensor:
        return diff * top * self.inner


@register_layer("Exp")
def _build(spec: LayerSpec) -> Exp:
    param = spec.param.exp_param
    if param.base != -1 and param.base <= 0:
        raise LayerParamError(f"base must be positive, or -1 for e, got {param.base:g}")
    base = None if param.base == -1 else param.base
    return Exp(base=base, scale=param.scale, shift=param.shift)
