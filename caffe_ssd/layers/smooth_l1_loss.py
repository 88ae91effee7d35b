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
    check_pair(*spec.bottoms)
    return SmoothL1Loss()


def check_pair(prediction: Shape, target: Shape) -> None:
    """Check that two bottoms have the same shape but for axes of length 1 at the end.

    Raises:
        ShapeError: they have not, or are scalars.
    """
    first, second = (shape + (1,) * (4 - len(shape)) for shape in (prediction, target))
    if first != second or not prediction:
        raise ShapeError(
            "prediction and target must have the same shape, got "
            f"{list(prediction)} and {list(target)}"
        )
