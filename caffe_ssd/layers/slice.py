"""Slice: cut the bottom along one axis; the inverse of Concat.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

from itertools import pairwise

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


class Slice(Layer):
    """The layer; a single top is the bottom itself.

    Args:
        axis: where to cut, not negative.
        num_tops: number of pieces.
        points: where pieces 1, 2, ... begin; empty for equal pieces.
    """

    def __init__(self, *, axis: int, num_tops: int, points: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.axis = axis
        self.grouping = Grouping.along(axis)
        self.num_tops = num_tops
        self.points = points

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        rest = bottom[self.axis + 1 :]
        return tuple((*bottom[: self.axis], size, *rest) for size in self._sizes(bottom))

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.num_tops == 1:
            return bottom
        return torch.split_with_sizes(bottom, self._sizes(tuple(bottom.shape)), self.axis)

    def _sizes(self, bottom: Shape) -> list[int]:
        size = bottom[self.axis]
        if self.points:
            if self.points[-1] >= size:
                raise ShapeError(
                    f"slice points {list(self.points)} must lie below {size}, the size of "
                    f"axis {self.axis}"
                )
            return [b - a for a, b in pairwise((0, *self.points, size))]
        if size % self.num_tops:
            raise ShapeError(
                f"axis {self.axis} of size {size} cannot be cut into {self.num_tops} equal pieces; "
                "give slice_point, or a number of tops that divides it"
            )
        return [size // self.num_tops] * self.num_tops


@register_layer("Slice", tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Slice:
    param = spec.param.slice_param
    if param.HasField("axis") and param.HasField("slice_dim"):
        raise LayerParamError(
            "give either axis or slice_dim, "
            f"got axis: {param.axis} and slice_dim: {param.slice_dim}"
        )
    points = tuple(param.slice_point)
    if points and len(points) != spec.num_tops - 1:
        raise LayerParamError(
            f"{spec.num_tops} tops need {spec.num_tops - 1} slice points, got {list(points)}"
        )
    if any(a >= b for a, b in pairwise((0, *points))):
        raise LayerParamError(f"slice points must be positive and increase, got {list(points)}")
    axis = param.slice_dim if param.HasField("slice_dim") else param.axis
    layer = Slice(
        axis=canonical_axis(axis, len(spec.bottoms[0])), num_tops=spec.num_tops, points=points
    )
    layer.top_shapes(*spec.bottoms)
    return layer
