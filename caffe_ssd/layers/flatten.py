"""Flatten: merge a range of axes into one.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import canonical_axis, refuse_in_place
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class Flatten(Layer):
    """The layer.

    Args:
        axis: first axis merged, may be negative.
        end_axis: last axis merged, may be negative.
    """

    def __init__(self, *, axis: int = 1, end_axis: int = -1) -> None:
        super().__init__()
        self.axis = axis
        self.grouping = Grouping.along(axis)
        self.end_axis = end_axis

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        start = canonical_axis(self.axis, len(bottom))
        end = canonical_axis(self.end_axis, len(bottom), "end_axis")
        if end < start:
            raise LayerParamError(
                f"end_axis {self.end_axis} lies before axis {self.axis}; it must be that axis or a "
                "later one"
            )
        merged = math.prod(bottom[start : end + 1])
        return ((*bottom[:start], merged, *bottom[end + 1 :]),)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.flatten(self.axis, self.end_axis)


@register_layer("Flatten")
def _build(spec: LayerSpec) -> Flatten:
    refuse_in_place(spec)
    param = spec.param.flatten_param
    layer = Flatten(axis=param.axis, end_axis=param.end_axis)
    layer.top_shapes(*spec.bottoms)
    return layer
