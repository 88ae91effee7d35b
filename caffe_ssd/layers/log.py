"""Log: the logarithm of shift + scale * x.

Spec: caffe-layers.md section D.
Quirk: base -1 stands for e.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer


class Log(Layer):
    """The layer; any shape.

    Args:
        base: positive and not 1; None for e.
        scale, shift: of the argument.
    """

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def __init__(
        self, *, base: float | None = None, scale: float = 1.0, shift: float = 0.0
    ) -> None:
        super().__init__()
        self.log_base = 1.0 if base is None else math.log(base)
        self.scale = scale
        self.shift = shift

    def forward(self, bottom: Tensor) -> Tensor:
        return (bottom * self.scale + self.shift).log() / self.log_base


@register_layer("Log")
def _build(spec: LayerSpec) -> Log:
    param = spec.param.log_param
    if param.base != -1 and (param.base <= 0 or param.base == 1):
        raise LayerParamError(f"base must be positive and not 1, or -1 for e, got {param.base:g}")
    base = None if param.base == -1 else param.base
    return Log(base=base, scale=param.scale, shift=param.shift)
