"""PSROIPooling: the average in each bin of each region, every bin from channels of its own (R-FCN).

Spec: other-forks.md section 14.
Quirk: corners are rounded before they are scaled.
Quirk: an empty bin gives 0; a region is at least 0.1 cells wide and high.

Shapes: features (N, O k k, H, W), regions (R, 5), the top (R, O, k, k).
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.extensions.regions import (
    Bins,
    check_regions,
    clipped_bins,
    round_half_away,
    split_regions,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer

LEAST_SIDE = 0.1


def psroi_bins(
    boxes: Tensor, count: int, sizes: tuple[int, int], *, scale: float
) -> tuple[Bins, Bins]:
    """Bins along rows and along columns.

    Args:
        boxes: (R, 4), x1, y1, x2, y2 in pixels.
        count: bins along each axis.
        sizes: of the map, (rows, columns).
        scale: cells per pixel.
    """
    first = round_half_away(boxes[:, :2]).flip(1) * scale  # y before x
    behind = (round_half_away(boxes[:, 2:]).flip(1) + 1) * scale
    step = (behind - first).clamp(min=LEAST_SIDE) / count
    number = torch.arange(count + 1, device=boxes.device, dtype=boxes.dtype)
    bins = []
    for axis in range(2):
        edges = number * step[:, axis, None] + first[:, axis, None]
        bins.append(clipped_bins(edges[:, :-1], edges[:, 1:], sizes[axis]))
    return bins[0], bins[1]


def bin_averages(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Averages over bins of one image; differentiable.

    Args:
        features: (O, k, k, H, W), one plane for every bin.
        rows: (R, k, H) bool, the rows of each bin.
        columns: (R, k, W) bool.

    Returns:
        (R, O, k, k).
    """
    over_columns = torch.einsum("oijhw,rjw->roijh", features, columns.to(features.dtype))
    sums = torch.einsum("roijh,rih->roij", over_columns, rows.to(features.dtype))
    cells = rows.sum(-1)[:, None, :, None] * columns.sum(-1)[:, None, None, :]
    return sums / cells.clamp(min=1)


class PSROIPooling(Layer):
    """The layer.

    Args:
        output_dim: O.
        group_size: k.
        scale: cells per pixel.
    """

    def __init__(self, *, output_dim: int, group_size: int, scale: float) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.group_size = group_size
        self.scale = scale

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        count = check_regions(*bottoms)
        channels = self.output_dim * self.group_size**2
        if bottoms[0][1] != channels:
            raise ShapeError(
                f"bottom 0 must have output_dim * group_size * group_size = {channels} channels, "
                f"got shape {list(bottoms[0])}"
            )
        return ((count, self.output_dim, self.group_size, self.group_size),)

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        image, boxes = split_regions(rois, len(features))
        size = self.group_size
        rows, columns = psroi_bins(
            boxes, size, (features.shape[2], features.shape[3]), scale=self.scale
        )
        row_masks, column_masks = rows.masks(features.shape[2]), columns.masks(features.shape[3])
        top = features.new_zeros(len(image), self.output_dim, size, size)
        for index in torch.unique(image).tolist():
            mine = image == index
            planes = features[index].reshape(self.output_dim, size, size, *features.shape[2:])
            top = top.index_put(
                (mine.nonzero()[:, 0],), bin_averages(planes, row_masks[mine], column_masks[mine])
            )
        return top


@register_layer("PSROIPooling", bottoms=2)
def _build(spec: LayerSpec) -> PSROIPooling:
    param = spec.param.psroi_pooling_param
    for name in ("spatial_scale", "output_dim", "group_size"):
        if not getattr(param, name) > 0:
            raise LayerParamError(f"{name} is missing or not positive: {getattr(param, name):g}")
    layer = PSROIPooling(
        output_dim=param.output_dim, group_size=param.group_size, scale=param.spatial_scale
    )
    layer.top_shapes(*spec.bottoms)
    return layer
