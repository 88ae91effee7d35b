"""Permute: reorder the axes.

Spec: ssd-layers.md section 6.
Quirk: axes that are not listed follow in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class Permute(Layer):
    """The layer; an order that changes nothing hands the bottom on.

    Args:
        order: for each axis of the top the axis of the bottom, complete.
    """

    def __init__(self, *, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)
        moves_images = self.order[:1] != (0,)
        self.grouping = Grouping.ONE_BY_ONE if moves_images else Grouping.PER_IMAGE

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return (tuple(bottoms[0][axis] for axis in self.order),)

    def forward(self, bottom: Tensor) -> Tensor:
        if self.order == tuple(range(len(self.order))):
            return bottom
        return bottom.permute(self.order).contiguous()


@register_layer("Permute")
def _build(spec: LayerSpec) -> Permute:
    (bottom,) = spec.bottoms
    given = list(spec.param.permute_param.order)
    for axis in given:
        if axis >= len(bottom):
            raise LayerParamError(
                f"order {axis} is no axis of the bottom's shape {list(bottom)}; "
                f"allowed: 0..{len(bottom) - 1}"
            )
        if given.count(axis) > 1:
            raise LayerParamError(f"axis {axis} may stand only once in order, got {given}")
    return Permute(order=given + [axis for axis in range(len(bottom)) if axis not in given])
