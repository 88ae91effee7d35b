"""EuclideanLoss: half the mean over items of the squared distance of two bottoms.

Spec: caffe-layers.md section G.
Quirk: the bottoms need not have the same shape, only the same count per item.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.loss_common import check_batch
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class EuclideanLoss(Layer):
    """The layer; both bottoms get a gradient."""

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            raise ShapeError(
                f"bottoms 0 and 1 must have the same count per item, "
                f"got {list(bottoms[0])} and {list(bottoms[1])}"
            )
        return ((),)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        difference = first - second.reshape(first.shape)
        return difference.square().sum() / (2 * first.shape[0])


@register_layer("EuclideanLoss", bottoms=2, is_loss=True)
def _build(spec: LayerSpec) -> EuclideanLoss:
    layer = EuclideanLoss()
    layer.top_shapes(*spec.bottoms)
    return layer
