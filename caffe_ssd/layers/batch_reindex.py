"""BatchReindex: pick items of bottom 0 by the indices in bottom 1.

Spec: caffe-layers.md section E.
Quirk: indices are floats, cut toward zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError, ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class BatchReindex(Layer):
    """The layer; an item may be picked several times."""

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        items, indices = bottoms
        if not items or len(indices) != 1:
            raise ShapeError(
                f"bottoms must have shapes (N, ...) and (M), got {list(items)} and {list(indices)}"
            )
        return ((indices[0], *items[1:]),)

    def forward(self, items: Tensor, indices: Tensor) -> Tensor:
        index = indices.detach().to(torch.int64)
        wrong = (index < 0) | (index >= items.shape[0])
        if bool(wrong.any()):
            raise LayerError(
                f"indices must lie in 0..{items.shape[0] - 1}, got {int(index[wrong][0])}"
            )
        return forbid_gradient(items.index_select(0, index), indices, "indices")


@register_layer("BatchReindex", bottoms=2)
def _build(spec: LayerSpec) -> BatchReindex:
    layer = BatchReindex()
    layer.top_shapes(*spec.bottoms)
    return layer
