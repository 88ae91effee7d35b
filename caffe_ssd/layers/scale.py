"""Scale: multiply by a learnt or given factor, broadcast over the other axes, and add a bias.

Spec: caffe-layers.md section C.
Quirk: the factor starts at 1 only if `filler` is absent; an empty `filler {}` means 0.
Quirk: with two bottoms the bias is blob 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.affine import given_axis, learnt_axis, spread
from caffe_ssd.layers.common import constant, learnt_blobs
from caffe_ssd.layers.registry import (
    EVERY_BOTTOM,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


def scale(x: Tensor, factor: Tensor, bias: Tensor | None, *, axis: int) -> Tensor:
    """x * factor + bias.

    Args:
        x: any shape.
        factor: shaped like x's axes from `axis` on, as many as it has.
        bias: shaped like the factor, or None.
        axis: first axis covered, not negative.
    """
    if bias is None:
        return x * spread(factor, x, axis)
    return torch.addcmul(spread(bias, x, axis), x, spread(factor, x, axis))


class Scale(Layer):
    """The layer; blobs are the factor (unless bottom 1 is), then the bias if there is one.

    Args:
        axis: see `scale`.
        shape: shape of factor and bias.
        learnt: whether the factor is a blob rather than bottom 1.
    """

    backward_reads = EVERY_BOTTOM

    def __init__(self, *, axis: int, shape: Shape, learnt: bool) -> None:
        super().__init__()
        self.axis = axis
        self.shape = shape
        self.learnt = learnt
        if bool(shape) and learnt == (axis > 0):  # else images share it, or have one each
            self.grouping = Grouping.PER_IMAGE

    @property
    def is_per_channel(self) -> bool:
        """Whether it learns one factor per channel, axis 1."""
        return self.learnt and self.axis == 1 and len(self.shape) == 1

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        covered = bottoms[0][self.axis : self.axis + len(self.shape)]
        if not self.learnt:
            given_axis(*bottoms, axis=self.axis, what="scale")
        if (self.learnt or len(self.blobs)) and covered != self.shape:
            raise ShapeError(
                f"the blobs of shape {list(self.shape)} do not fit bottom 0 of shape "
                f"{list(bottoms[0])} from axis {self.axis} on"
            )
        return (bottoms[0],)

    def forward(self, bottom: Tensor, factor: Tensor | None = None) -> Tensor:
        blobs = list(self.blobs)
        if factor is None:
            factor = blobs.pop(0)
        return scale(bottom, factor, blobs[0] if blobs else None, axis=self.axis)


@register_layer("Scale", bottoms=range(1, 3))
def _build(spec: LayerSpec) -> Scale:
    param = spec.param.scale_param
    learnt = len(spec.bottoms) == 1
    if learnt:
        axis, shape = learnt_axis(spec.bottoms[0], axis=param.axis, num_axes=param.num_axes)
    else:
        axis, shape = given_axis(*spec.bottoms, axis=param.axis, what="scale"), spec.bottoms[1]
    layer = Scale(axis=axis, shape=shape, learnt=learnt)
    blobs = []
    if learnt:
        blobs.append((shape, param.filler if param.HasField("filler") else constant(1)))
    if param.bias_term:
        blobs.append((shape, param.bias_filler))
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
