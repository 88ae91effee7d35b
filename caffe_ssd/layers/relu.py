"""ReLU: y = max(x, 0) + negative_slope * min(x, 0).

Spec: caffe-layers.md section D.
Quirk: the gradient at 0 is the slope.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer


class ReLU(Layer):
    """The layer; any shape.

    Args:
        negative_slope: factor of the values below zero.
    """

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def __init__(self, *, negative_slope: float = 0.0) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, bottom: Tensor) -> Tensor:
        if self.negative_slope == 0:
            return F.relu(bottom)
        return F.leaky_relu(bottom, self.negative_slope)


@register_layer("ReLU")
def _build(spec: LayerSpec) -> ReLU:
    return ReLU(negative_slope=spec.param.relu_param.negative_slope)
