"""TanH: the hyperbolic tangent.

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class TanH(Layer):
    """The layer; any shape."""

    grouping = Grouping.PER_IMAGE

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.tanh(bottom)

    def backward_from_top(self, top: Tensor, diff: Tensor) -> Tensor:
        return diff * (1 - top * top)


@register_layer("TanH")
def _build(spec: LayerSpec) -> TanH:
    return TanH()
