"""Im2col: lay out the cells under each kernel position as channels.

Spec: caffe-layers.md section A.
Quirk: num_output, group and the fillers of the message are ignored.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.conv_geometry import ConvGeometry, read_geometry
from caffe_ssd.layers.convolution import check_conv_bottom
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


def im2col(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """Unfold the spatial axes.

    Args:
        x: (B..., C, sizes...).
        geometry: see `ConvGeometry`.

    Returns:
        (B..., C * kernel cells, counts...): channels vary slowest, then the kernel's axes in order.
    """
    first = geometry.axis + 1
    batch, channels, sizes = x.shape[: geometry.axis], x.shape[geometry.axis], x.shape[first:]
    counts = geometry.conv_sizes(sizes)
    rank = len(sizes)
    for i in reversed(range(rank)):
        missing = max(geometry.extents[i] - sizes[i] - 2 * geometry.pad[i], 0)
        behind = rank - 1 - i
        x = F.pad(x, (0, 0) * behind + (geometry.pad[i], geometry.pad[i] + missing))
        taps = torch.arange(geometry.kernel[i], device=x.device) * geometry.dilation[i]
        starts = torch.arange(counts[i], device=x.device) * geometry.stride[i]
        cells = (taps[:, None] + starts).flatten()
        x = x.index_select(first + i, cells)
    pairs = [n for pair in zip(geometry.kernel, counts, strict=True) for n in pair]
    x = x.reshape(*batch, channels, *pairs)
    order = (*range(first), *range(first, x.dim(), 2), *range(first + 1, x.dim(), 2))
    return x.permute(order).reshape(*batch, channels * math.prod(geometry.kernel), *counts)


class Im2col(Layer):
    """The layer.

    Args:
        channels: size of the channel axis.
        geometry: see `im2col`.
    """

    def __init__(self, *, channels: int, geometry: ConvGeometry) -> None:
        super().__init__()
        self.channels = channels
        self.geometry = geometry

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        sizes = check_conv_bottom(bottom, self.channels, self.geometry)
        cells = self.channels * math.prod(self.geometry.kernel)
        return ((*bottom[: self.geometry.axis], cells, *self.geometry.conv_sizes(sizes)),)

    def forward(self, bottom: Tensor) -> Tensor:
        return im2col(bottom, self.geometry)


@register_layer("Im2col")
def _build(spec: LayerSpec) -> Im2col:
    (bottom,) = spec.bottoms
    geometry = read_geometry(spec.param.convolution_param, bottom)
    layer = Im2col(channels=bottom[geometry.axis], geometry=geometry)
    layer.top_shapes(bottom)
    return layer
