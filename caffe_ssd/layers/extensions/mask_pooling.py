"""MaskPooling: multiply every channel by one mask.

Spec: other-forks.md section 8. From SSD-RPA (wujixiu/helmet-detection).

Shapes: x is (N, C, H, W), the mask (N, 1, H, W).
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class MaskPooling(Layer):
    """The layer; no settings."""

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        x, mask = bottoms
        check_rank(x, 4)
        if mask != (x[0], 1, *x[2:]):
            raise ShapeError(
                f"the mask (bottom 1) must have shape {[x[0], 1, *x[2:]]}, got {list(mask)}"
            )
        return (x,)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


@register_layer("MaskPooling", bottoms=2)
def _build(spec: LayerSpec) -> MaskPooling:
    layer = MaskPooling()
    layer.top_shapes(*spec.bottoms)
    return layer
