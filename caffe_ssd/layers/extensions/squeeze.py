"""Squeeze: drop axes of length 1.

Spec: other-forks.md section 8. In nets that Synopsys converted from TensorFlow.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class Squeeze(Layer):
    """The layer.

    Args:
        axes: those to drop, may be negative; none for all of length 1.
    """

    def __init__(self, *, axes: Sequence[int] = ()) -> None:
        super().__init__()
        self.axes = tuple(axes)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        dropped = {canonical_axis(axis, len(bottom)) for axis in self.axes}
        if not dropped:
            dropped = {axis for axis, size in enumerate(bottom) if size == 1}
        for axis in sorted(dropped):
            if bottom[axis] != 1:
                raise ShapeError(
                    f"axis {axis} must have length 1 to be dropped, got {list(bottom)}"
                )
        return (tuple(size for axis, size in enumerate(bottom) if axis not in dropped),)

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.reshape(self.top_shapes(tuple(bottom.shape))[0])


@register_layer("Squeeze")
def _build(spec: LayerSpec) -> Squeeze:
    layer = Squeeze(axes=tuple(spec.param.squeeze_param.axis))
    layer.top_shapes(*spec.bottoms)
    return layer
