"""ArgMax: the indices, or the values, of the largest elements; without gradient.

Spec: caffe-layers.md section E.
Quirk: of equal values the one with the higher index comes first.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.loss_common import check_top_k
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


def largest(x: Tensor, top_k: int, axis: int) -> tuple[Tensor, Tensor]:
    """The top_k largest values along an axis, and their indices; see the module for ties."""
    # A stable sort of the reversed axis meets the higher index first.
    values, index = x.flip(axis).sort(dim=axis, descending=True, stable=True)
    return values.narrow(axis, 0, top_k), x.shape[axis] - 1 - index.narrow(axis, 0, top_k)


class ArgMax(Layer):
    """The layer.

    Args:
        axis: along which to compare, not negative; None to compare all elements of an item.
        top_k: how many elements to report.
        out_max_val: report values: instead of the indices with an axis, beside them without.
    """

    def __init__(
        self, *, axis: int | None = None, top_k: int = 1, out_max_val: bool = False
    ) -> None:
        super().__init__()
        self.axis = axis
        self.top_k = top_k
        self.out_max_val = out_max_val

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        axis = self.axis
        if axis is None:
            check_top_k(self.top_k, math.prod(bottom[1:]), "values of an item")
            tail = (1,) * (len(bottom) - 3)
            return ((bottom[0], 2 if self.out_max_val else 1, self.top_k, *tail),)
        check_top_k(self.top_k, bottom[axis], f"elements on axis {axis}")
        return ((*bottom[:axis], self.top_k, *bottom[axis + 1 :]),)

    def forward(self, bottom: Tensor) -> Tensor:
        (shape,) = self.top_shapes(tuple(bottom.shape))
        bottom = bottom.detach()
        if self.axis is not None:
            values, index = largest(bottom, self.top_k, self.axis)
            return values if self.out_max_val else index.to(bottom.dtype)
        values, index = largest(bottom.flatten(1), self.top_k, 1)
        planes = [index.to(bottom.dtype)] + ([values] if self.out_max_val else [])
        return torch.stack(planes, 1).reshape(shape)


@register_layer("ArgMax", has_backward=False)
def _build(spec: LayerSpec) -> ArgMax:
    param = spec.param.argmax_param
    axis = None
    if param.HasField("axis"):
        axis = canonical_axis(param.axis, len(spec.bottoms[0]))
    layer = ArgMax(axis=axis, top_k=param.top_k, out_max_val=param.out_max_val)
    layer.top_shapes(*spec.bottoms)
    return layer
