"""Concat: join the bottoms along one axis.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import (
    AT_LEAST_ONE,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


class Concat(Layer):
    """The layer; a single bottom is passed on as it is.

    Args:
        axis: where to join, not negative.
    """

    def __init__(self, *, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.grouping = Grouping.along(axis)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        first, axis = bottoms[0], self.axis
        for i, shape in enumerate(bottoms):
            same_rest = shape[:axis] == first[:axis] and shape[axis + 1 :] == first[axis + 1 :]
            if len(shape) != len(first) or not same_rest:
                raise ShapeError(
                    f"bottoms may differ in axis {axis} only, "
                    f"got {list(first)} and {list(shape)} (bottom {i})"
                )
        total = sum(shape[axis] for shape in bottoms)
        return ((*first[:axis], total, *first[axis + 1 :]),)

    def forward(self, *bottoms: Tensor) -> Tensor:
        return bottoms[0] if len(bottoms) == 1 else torch.cat(bottoms, self.axis)


@register_layer("Concat", bottoms=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Concat:
    param = spec.param.concat_param
    if param.HasField("axis") and param.HasField("concat_dim"):
        raise LayerParamError(
            "give either axis or concat_dim, "
            f"got axis: {param.axis} and concat_dim: {param.concat_dim}"
        )
    axis = param.concat_dim if param.HasField("concat_dim") else param.axis
    layer = Concat(axis=canonical_axis(axis, len(spec.bottoms[0])))
    layer.top_shapes(*spec.bottoms)
    return layer
