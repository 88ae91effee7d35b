"""Reshape: replace a range of axes by others of the same count.

Spec: caffe-layers.md section E.
Quirk: a negative `axis` counts from behind the last axis, so -1 inserts at the end.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import refuse_in_place
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class Reshape(Layer):
    """The layer.

    Args:
        dims: the new axes; 0 copies the bottom's size at that place, -1 (once) is inferred.
        axis: first axis replaced.
        num_axes: how many are replaced; -1 for all the rest.
    """

    def __init__(self, *, dims: tuple[int, ...], axis: int = 0, num_axes: int = -1) -> None:
        super().__init__()
        self.dims = dims
        self.axis = axis
        self.num_axes = num_axes
        if axis > 0 or (axis == 0 and dims[:1] == (0,)):
            self.grouping = Grouping.PER_IMAGE

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        start, end = self._replaced(len(bottom))
        dims = [self._copied(bottom, start + i) if d == 0 else d for i, d in enumerate(self.dims)]
        shape = [*bottom[:start], *dims, *bottom[end:]]
        count = math.prod(bottom)
        if -1 in dims:
            rest = math.prod(size for size in shape if size != -1)
            if rest == 0 or count % rest:
                raise ShapeError(
                    f"cannot infer a size: without the -1, {shape} must divide the {count} "
                    f"elements of bottom 0 of shape {list(bottom)}"
                )
            shape[shape.index(-1)] = count // rest
        elif math.prod(shape) != count:
            raise ShapeError(
                f"{shape} has another number of elements than bottom 0 of shape {list(bottom)}; "
                f"it must have {count}"
            )
        return (tuple(shape),)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.reshape(self.top_shapes(tuple(bottom.shape))[0])

    def _replaced(self, rank: int) -> tuple[int, int]:
        start = self.axis if self.axis >= 0 else rank + self.axis + 1
        if not 0 <= start <= rank:
            raise LayerParamError(
                f"axis {self.axis} is out of range for a bottom with {rank} axes; "
                f"allowed: {-rank - 1}..{rank}"
            )
        end = rank if self.num_axes == -1 else start + self.num_axes
        if end > rank:
            raise LayerParamError(
                f"axis {self.axis} and num_axes {self.num_axes} reach beyond a bottom with "
                f"{rank} axes; num_axes may be at most {rank - start}, or -1 for all the rest"
            )
        return start, end

    def _copied(self, bottom: Shape, axis: int) -> int:
        if axis >= len(bottom):
            raise LayerParamError(
                f"dim 0 copies axis {axis}, which bottom 0 of shape {list(bottom)} lacks; "
                "a size is needed there"
            )
        return bottom[axis]


@register_layer("Reshape")
def _build(spec: LayerSpec) -> Reshape:
    refuse_in_place(spec)
    param = spec.param.reshape_param
    dims = tuple(param.shape.dim)
    if dims.count(-1) > 1:
        raise LayerParamError(f"at most one dim may be -1, got {list(dims)}")
    if any(dim < -1 for dim in dims):
        raise LayerParamError(f"a dim must be -1 or more, got {list(dims)}")
    if param.num_axes < -1:
        raise LayerParamError(f"num_axes must be -1 or more, got {param.num_axes}")
    layer = Reshape(dims=dims, axis=param.axis, num_axes=param.num_axes)
    layer.top_shapes(*spec.bottoms)
    return layer
