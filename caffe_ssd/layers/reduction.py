"""Reduction: sum, absolute sum, sum of squares or mean over the trailing axes.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import EVERY_BOTTOM, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import ReductionParameter


class Reduction(Layer):
    """The layer.

    Args:
        operation: ReductionParameter.SUM, ASUM, SUMSQ or MEAN.
        axis: first axis reduced, not negative.
        coeff: what the result is multiplied by.
    """

    backward_reads = EVERY_BOTTOM

    def __init__(
        self, *, operation: ReductionParameter.ReductionOp, axis: int = 0, coeff: float = 1.0
    ) -> None:
        super().__init__()
        self.operation = operation
        self.axis = axis
        self.coeff = coeff

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return (bottoms[0][: self.axis],)

    def forward(self, bottom: Tensor) -> Tensor:
        items = bottom.flatten(self.axis)
        if self.operation == ReductionParameter.ASUM:
            items = items.abs()
        elif self.operation == ReductionParameter.SUMSQ:
            items = items.square()
        elif self.operation == ReductionParameter.MEAN:
            return items.mean(-1) * self.coeff
        return items.sum(-1) * self.coeff


@register_layer("Reduction")
def _build(spec: LayerSpec) -> Reduction:
    param = spec.param.reduction_param
    axis = canonical_axis(param.axis, len(spec.bottoms[0]))
    return Reduction(operation=param.operation, axis=axis, coeff=param.coeff)
