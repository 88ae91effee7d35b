"""ROIPooling: the maximum in each bin of each region of interest (Fast R-CNN).

Spec: other-forks.md section 14. `pad_ratio`, which widens regions, is mscnn's.
Quirk: an empty bin gives 0.
Quirk: regions are not clipped to the map before they are cut into bins.

Shapes: features (N, C, H, W), regions (R, 5), the top (R, C, h, w).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.extensions.regions import (
    Bins,
    check_regions,
    clipped_bins,
    round_half_away,
    split_regions,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer

Pair = tuple[int, int]


def roi_bins(
    boxes: Tensor, pooled: Pair, sizes: Pair, *, scale: float, pad_ratio: float = 0.0
) -> tuple[Bins, Bins]:
    """Bins along rows and along columns.

    Args:
        boxes: (R, 4), x1, y1, x2, y2 in pixels.
        pooled: numbers of bins, (rows, columns).
        sizes: of the map, (rows, columns).
        scale: cells per pixel.
        pad_ratio: share of its own size that a region grows by on each side.
    """
    low, high = boxes[:, :2].flip(1), boxes[:, 2:].flip(1)  # y before x
    pad = (high - low + 1) * pad_ratio
    first = round_half_away((low - pad) * scale)
    last = round_half_away((high + pad) * scale)
    length = (last - first + 1).clamp(min=1)
    bins = []
    for axis in range(2):
        step = (length[:, axis] / pooled[axis])[:, None]
        number = torch.arange(pooled[axis], device=boxes.device, dtype=boxes.dtype)
        start, end = (number * step).floor(), ((number + 1) * step).ceil()
        origin = first[:, axis, None]
        bins.append(clipped_bins(start + origin, end + origin, sizes[axis]))
    return bins[0], bins[1]


class _MaxOfBins(torch.autograd.Function):
    """The maxima, whose gradient goes to the first cell that has them."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, image: Tensor, rows: Bins, columns: Bins) -> Tensor:
        num_channels, width = features.shape[1], features.shape[3]
        cells = [
            _cells(rows.start[r], rows.end[r], columns.start[r], columns.end[r], width)
            for r in range(len(image))
        ]
        tops, places = [], []
        for index, (at, inside) in zip(image.tolist(), cells, strict=True):
            values = features[index].flatten(1)[:, at].masked_fill(~inside, -torch.inf)
            best = values.argmax(-1, keepdim=True)  # the first of equal ones
            tops.append(values.gather(-1, best)[..., 0])
            place = at.expand(num_channels, *at.shape).gather(-1, best)[..., 0]
            places.append(place.where(inside.any(-1), -1))
        place = torch.stack(places)
        ctx.save_for_backward(image, place)
        ctx.shape = features.shape
        return torch.stack(tops).masked_fill(place < 0, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        image, place = ctx.saved_tensors
        images, channels, height, width = ctx.shape
        channel = torch.arange(channels, device=place.device)[:, None, None]
        flat = (image[:, None, None, None] * channels + channel) * (height * width) + place
        chosen = place >= 0
        dx = grads[0].new_zeros(images * channels * height * width)
        dx.index_add_(0, flat[chosen], grads[0][chosen])
        return dx.reshape(ctx.shape), None, None, None


def _cells(
    top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Flat cells of each bin of one region, row by row, (h, w, M), and which of them are in it."""
    down = torch.arange(max(int((bottom - top).max()), 1), device=top.device)
    across = torch.arange(max(int((right - left).max()), 1), device=top.device)
    row, column = top[:, None] + down, left[:, None] + across
    inside = (row < bottom[:, None])[:, None, :, None] & (column < right[:, None])[None, :, None]
    at = row[:, None, :, None] * width + column[None, :, None]
    return at.where(inside, 0).flatten(2), inside.flatten(2)


class ROIPooling(Layer):
    """The layer.

    Args:
        pooled: numbers of bins, (rows, columns).
        scale: cells per pixel.
        pad_ratio: see `roi_bins`.
    """

    def __init__(self, *, pooled: Pair, scale: float = 1.0, pad_ratio: float = 0.0) -> None:
        super().__init__()
        self.pooled = pooled
        self.scale = scale
        self.pad_ratio = pad_ratio

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ((check_regions(*bottoms), bottoms[0][1], *self.pooled),)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        image, boxes = split_regions(rois, len(features))
        if len(image) == 0:
            return features.new_zeros(0, features.shape[1], *self.pooled)
        rows, columns = roi_bins(
            boxes,
            self.pooled,
            (features.shape[2], features.shape[3]),
            scale=self.scale,
            pad_ratio=self.pad_ratio,
        )
        top: Tensor = _MaxOfBins.apply(  # type: ignore[no-untyped-call]
            features, image, rows, columns
        )
        return top


@register_layer("ROIPooling", bottoms=2)
def _build(spec: LayerSpec) -> ROIPooling:
    param = spec.param.roi_pooling_param
    if min(param.pooled_h, param.pooled_w) < 1:
        raise LayerParamError(
            f"pooled_h and pooled_w must be positive, got {param.pooled_h} and {param.pooled_w}"
        )
    layer = ROIPooling(
        pooled=(param.pooled_h, param.pooled_w),
        scale=param.spatial_scale,
        pad_ratio=param.pad_ratio,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
