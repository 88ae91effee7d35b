"""SmoothL1Loss: quadratic for small differences, linear for large ones.

Spec: ssd-layers.md section 7.
Quirk: the sum is divided by the length of axis 0 only.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class SmoothL1Loss(Layer):
    """The layer: sum of 0.5 d^2 where |d| < 1 and |d| - 0.5 elsewhere, over axis 0's length."""

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ((),)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        total = F.smooth_l1_loss(prediction, target.reshape(prediction.shape), reduction="sum")
        return total / prediction.shape[0]


@register_layer("SmoothL1Loss", bottoms=2, is_loss=True)
def _build(spec: LayerSpec) -> SmoothL1Loss:
    prediction, target = (shape + (1,) * (4 - len(shape)) for shape in spec.bottoms)
    if prediction != target or not spec.bottoms[0]:
        raise ShapeError(
            "prediction and target must have the same shape, got "
            f"{list(spec.bottoms[0])} and {list(spec.bottoms[1])}"
        )
    return SmoothL1Loss()
