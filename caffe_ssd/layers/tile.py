"""Tile: repeat the bottom along one axis.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class Tile(Layer):
    """The layer.

    Args:
        axis: along which to repeat, not negative.
        tiles: how often.
    """

    def __init__(self, *, axis: int, tiles: int) -> None:
        super().__init__()
        self.axis = axis
        self.tiles = tiles

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        axis = self.axis
        return ((*bottom[:axis], bottom[axis] * self.tiles, *bottom[axis + 1 :]),)

    def forward(self, bottom: Tensor) -> Tensor:
        times = [1] * bottom.dim()
        times[self.axis] = self.tiles
        return bottom.repeat(times)


@register_layer("Tile")
def _build(spec: LayerSpec) -> Tile:
    param = spec.param.tile_param
    if param.tiles < 1:
        raise LayerParamError(f"tiles must be given and positive, got {param.tiles}")
    return Tile(axis=canonical_axis(param.axis, len(spec.bottoms[0])), tiles=param.tiles)
