"""Swish: y = x * sigmoid(beta * x).

Spec: other-forks.md section 8. From eric612, as in later BVLC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class Swish(Layer):
    """The layer; any shape.

    Args:
        beta: how steep the gate is.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom * torch.sigmoid(self.beta * bottom)


@register_layer("Swish")
def _build(spec: LayerSpec) -> Swish:
    return Swish(beta=spec.param.swish_param.beta)
