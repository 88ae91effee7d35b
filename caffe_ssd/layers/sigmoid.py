"""Sigmoid: 1 / (1 + exp(-x)).

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class Sigmoid(Layer):
    """The layer; any shape."""

    grouping = Grouping.PER_IMAGE

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.sigmoid(bottom)

    def backward_from_top(self, top: Tensor, diff: Tensor) -> Tensor:
        return diff * top * (1 - top)


@register_layer("Sigmoid")
def _build(spec: LayerSpec) -> Sigmoid:
    return Sigmoid()
