"""Softmax: exp over its sum along one axis, after the maximum is taken off.

Spec: caffe-layers.md section G.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class Softmax(Layer):
    """The layer; any shape.

    Args:
        axis: along which the values sum to 1.
    """

    def __init__(self, *, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.grouping = Grouping.along(axis)

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.softmax(bottom, self.axis)

    def backward_from_top(self, top: Tensor, diff: Tensor) -> Tensor:
        return (diff - (diff * top).sum(self.axis, keepdim=True)) * top


@register_layer("Softmax")
def _build(spec: LayerSpec) -> Softmax:
    return Softmax(axis=canonical_axis(spec.param.softmax_param.axis, len(spec.bottoms[0])))
