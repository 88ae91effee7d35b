"""Silence: read blobs that nobody needs, so that they are no outputs of the net.

Spec: caffe-layers.md section E.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.registry import (
    AT_LEAST_ONE,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


class Silence(Layer):
    """The layer; it has no tops."""

    grouping = Grouping.PER_IMAGE

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()


@register_layer("Silence", bottoms=AT_LEAST_ONE, tops=0)
def _build(spec: LayerSpec) -> Silence:
    return Silence()
