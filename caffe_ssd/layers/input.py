"""Input: blobs that the user fills.

Spec: caffe-layers.md section H.
Quirk: without a shape the tops are empty until the user shapes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import AT_LEAST_ONE, Layer, LayerSpec, Shape, register_layer


class Input(Layer):
    """The layer; the net puts its own data in place of the zeros this one makes.

    Args:
        shapes: of the tops.
    """

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__()
        self.shapes = shapes

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return self.shapes

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(torch.zeros(shape) for shape in self.shapes)
        return tops if len(tops) > 1 else tops[0]


@register_layer("Input", bottoms=0, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Input:
    shapes = tuple(tuple(shape.dim) for shape in spec.param.input_param.shape)
    for shape in shapes:
        if min(shape, default=0) < 0:
            raise LayerParamError(f"input_param.shape must not be negative, got {list(shape)}")
    if len(shapes) not in (0, 1, spec.num_tops):
        raise LayerParamError(
            f"input_param.shape must be given never, once or once per top ({spec.num_tops}), "
            f"got {len(shapes)}"
        )
    if len(shapes) == 0:
        shapes = ((0,),)
    return Input(shapes * spec.num_tops if len(shapes) == 1 else shapes)
