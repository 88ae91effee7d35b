"""GroupNorm: normalise groups of an item's channels by their mean and variance; no scale, no shift.

An extension of the format: the original SSD-Caffe has no such layer. It looks at one item at a
time, so it trains the same whatever the batch size and keeps no running statistics; a Scale layer
follows it as it follows BatchNorm. Source: Wu and He, "Group Normalization", equation 7.

Shapes: N items, C channels, then any sizes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


class GroupNorm(Layer):
    """The layer; it has no blobs.

    Args:
        num_groups: neighbouring channels are put into this many groups of equal size.
        eps: added to the variance, which is the biased one.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, num_groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.eps = eps

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if len(bottom) < 2:
            raise ShapeError(f"bottom 0 must have at least 2 axes, got shape {list(bottom)}")
        if bottom[1] % self.num_groups:
            raise ShapeError(
                f"num_groups {self.num_groups} must divide the channels of bottom 0, "
                f"got shape {list(bottom)}"
            )
        return bottoms

    def forward(self, bottom: Tensor) -> Tensor:
        return torch.group_norm(bottom, self.num_groups, eps=self.eps)


@register_layer("GroupNorm")
def _build(spec: LayerSpec) -> GroupNorm:
    param = spec.param.group_norm_param
    if param.num_groups < 1:
        raise LayerParamError(f"num_groups must be at least 1, got {param.num_groups}")
    if not param.eps > 0:
        raise LayerParamError(f"eps must be positive, got {param.eps:g}")
    layer = GroupNorm(num_groups=param.num_groups, eps=param.eps)
    layer.top_shapes(*spec.bottoms)
    return layer
