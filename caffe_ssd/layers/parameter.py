"""Parameter: a learnt blob as a top.

Spec: caffe-layers.md section E.
Quirk: the blob starts at 0; there is no filler.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class Parameter(Layer):
    """The layer; the top shares memory with blob 0.

    Args:
        shape: shape of the blob.
    """

    def __init__(self, *, shape: Shape) -> None:
        super().__init__()
        self.blobs.append(nn.Parameter(torch.zeros(shape)))

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return (tuple(self.blobs[0].shape),)

    def forward(self) -> Tensor:
        blob: Tensor = self.blobs[0]
        return blob.view_as(blob)


@register_layer("Parameter", bottoms=0)
def _build(spec: LayerSpec) -> Parameter:
    return Parameter(shape=tuple(spec.param.parameter_param.shape.dim))
