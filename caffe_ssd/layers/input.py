"""Input: blobs that the caller fills.

Spec: caffe-layers.md section H. Without a shape the tops have no axes until they are reshaped.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import AT_LEAST_ONE, Layer, LayerSpec, Shape, register_layer


class Input(Layer):
    """The layer; a net feeds its tops, and zeros stand for what it is not given.

    Args:
        shapes: one per top.
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return self.shapes

    def forward(self) -> tuple[Tensor, ...]:
        return tuple(torch.zeros(shape) for shape in self.shapes)


@register_layer("Input", bottoms=0, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Input:
    shapes = [tuple(shape.dim) for shape in spec.param.input_param.shape]
    if len(shapes) not in (0, 1, spec.num_tops):
        raise LayerParamError(
            f"input_param has {len(shapes)} shapes, allowed: none, one, or one per top "
            f"({spec.num_tops})"
        )
    if len(shapes) != spec.num_tops:
        shapes = (shapes or [()]) * spec.num_tops
    return Input(tuple(shapes))
