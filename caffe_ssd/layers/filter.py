"""Filter: keep the items whose selector is not zero.

Spec: caffe-layers.md section E.
Quirk: before the first run the tops are taken to have all items.
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.registry import (
    AT_LEAST_ONE,
    MANY,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


class Filter(Layer):
    """The layer; the last bottom is the selector, (N) or (N, 1, ...), the others are filtered."""

    can_repeat = False  # nobody knows the shapes of its tops beforehand

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        *data, selector = bottoms
        if math.prod(selector[1:]) != 1:
            raise ShapeError(f"the selector must have one value per item, got {list(selector)}")
        for i, shape in enumerate(data):
            if not shape or shape[:1] != selector[:1]:
                raise ShapeError(
                    f"bottom {i} of shape {list(shape)} must have as many items as the selector "
                    f"of shape {list(selector)}"
                )
        return tuple(data)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        *data, selector = bottoms
        kept = selector.detach().flatten().nonzero().flatten()
        tops = tuple(
            forbid_gradient(bottom.index_select(0, kept), selector, "selector") for bottom in data
        )
        return tops if len(tops) > 1 else tops[0]


@register_layer("Filter", bottoms=range(2, MANY), tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Filter:
    num_data = len(spec.bottoms) - 1
    if spec.num_tops != num_data:
        raise ShapeError(f"needs as many tops as data bottoms ({num_data}), got {spec.num_tops}")
    layer = Filter()
    layer.top_shapes(*spec.bottoms)
    return layer
