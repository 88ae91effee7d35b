"""Bias: add a learnt or given offset, broadcast over the other axes.

Spec: caffe-layers.md section C.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.affine import given_axis, learnt_axis, spread
from caffe_ssd.layers.common import learnt_blobs
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class Bias(Layer):
    """The layer; blob 0 is the offset unless bottom 1 is.

    Args:
        axis: first axis covered, not negative.
        shape: shape of the offset.
        learnt: whether the offset is a blob rather than bottom 1.
    """

    def __init__(self, *, axis: int, shape: Shape, learnt: bool) -> None:
        super().__init__()
        self.axis = axis
        self.shape = shape
        self.learnt = learnt
        if bool(shape) and learnt == (axis > 0):  # else images share it, or have one each
            self.grouping = Grouping.PER_IMAGE

    @property
    def is_per_channel(self) -> bool:
        """Whether it learns one offset per channel, axis 1."""
        return self.learnt and self.axis == 1 and len(self.shape) == 1

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        if not self.learnt:
            given_axis(*bottoms, axis=self.axis, what="bias")
        elif bottoms[0][self.axis : self.axis + len(self.shape)] != self.shape:
            raise ShapeError(
                f"the blob of shape {list(self.shape)} does not fit bottom 0 of shape "
                f"{list(bottoms[0])} from axis {self.axis} on"
            )
        return (bottoms[0],)

    def forward(self, bottom: Tensor, offset: Tensor | None = None) -> Tensor:
        if offset is None:
            offset = self.blobs[0]
        return bottom + spread(offset, bottom, self.axis)


@register_layer("Bias", bottoms=range(1, 3))
def _build(spec: LayerSpec) -> Bias:
    param = spec.param.bias_param
    if len(spec.bottoms) == 2:
        axis = given_axis(*spec.bottoms, axis=param.axis, what="bias")
        return Bias(axis=axis, shape=spec.bottoms[1], learnt=False)
    axis, shape = learnt_axis(spec.bottoms[0], axis=param.axis, num_axes=param.num_axes)
    layer = Bias(axis=axis, shape=shape, learnt=True)
    layer.blobs.extend(learnt_blobs(spec, (shape, param.filler)))
    return layer
