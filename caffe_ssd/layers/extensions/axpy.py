"""Axpy: a factor per channel times x, plus y (the last step of a squeeze-and-excitation block).

Spec: other-forks.md section 6. From SENet; bottoms are a, x, y.
Quirk: the second bottom is scaled; OpenCV's importer scales the third.

Shapes: a is (N, C) or (N, C, 1, 1); x and y are (N, C, ...).
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class Axpy(Layer):
    """The layer; no settings."""

    grouping = Grouping.PER_IMAGE

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        a, x, y = bottoms
        if x != y:
            raise ShapeError(
                f"bottoms 1 and 2 must have the same shape, got {list(x)} and {list(y)}"
            )
        if len(x) < 2 or a[:2] != x[:2] or any(size != 1 for size in a[2:]) or len(a) not in (2, 4):
            raise ShapeError(
                f"bottom 0 must have shape (N, C) or (N, C, 1, 1) for bottoms {list(x)}, "
                f"got {list(a)}"
            )
        return (x,)

    def forward(self, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return a.reshape(*x.shape[:2], *(1,) * (x.dim() - 2)) * x + y


@register_layer("Axpy", bottoms=3)
def _build(spec: LayerSpec) -> Axpy:
    layer = Axpy()
    layer.top_shapes(*spec.bottoms)
    return layer
