"""BNLL: log(1 + exp(x)), the smooth form of a ReLU.

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer

# From here on the value is x and the gradient 1, both to float32 precision.
LINEAR_FROM = 50.0


class BNLL(Layer):
    """The layer; any shape."""

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def forward(self, bottom: Tensor) -> Tensor:
        return F.softplus(bottom, threshold=LINEAR_FROM)


@register_layer("BNLL")
def _build(spec: LayerSpec) -> BNLL:
    return BNLL()
