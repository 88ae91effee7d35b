"""Interp: bilinear resizing with the corners of the planes aligned.

Spec: other-forks.md section 5. From DeepLab, PSPNet and ICNet, lzx1413, soeaver, Intel.

Shapes: N items, C channels, H, W, of which h, w are left after cropping.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import InterpParameter

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class TargetSize:
    """What the size of the top is; the first that is given counts, in this order.

    Args:
        shrink, zoom: factors; None where they are not given.
        size: (rows, columns) or None.
    """

    shrink: int | None = None
    zoom: int | None = None
    size: Pair | None = None

    def of(self, sizes: Pair) -> Pair:
        """The size for a plane of these sizes."""
        if self.size is not None and (self.shrink is None) == (self.zoom is None):
            return self.size
        rows, columns = map(self._scaled, sizes)
        return rows, columns

    def _scaled(self, length: int) -> int:
        if self.shrink is not None:
            length = (length - 1) // self.shrink + 1
        if self.zoom is not None:
            length += (length - 1) * (self.zoom - 1)
        return length


def interpolate(x: Tensor, size: Pair) -> Tensor:
    """Resize planes.

    Args:
        x: (N, C, h, w).
        size: rows and columns of the result.
    """
    if tuple(x.shape[2:]) == size:
        return x.clone()
    for axis in (2, 3):
        places = interpolation_places(x.shape[axis], size[axis - 2])
        low, high, share = (each.to(x.device) for each in places)
        weight = share.to(x.dtype).reshape(-1, *(1,) * (3 - axis))
        x = x.index_select(axis, low) * (1 - weight) + x.index_select(axis, high) * weight
    return x


def interpolation_places(length: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """What each result along an axis is made of.

    Args:
        length: cells of the axis.
        count: results.

    Returns:
        The cells before and behind it, int64, and the share of the latter, float32; (count,) each.
    """
    ratio = np.float32(length - 1) / np.float32(count - 1) if count > 1 else np.float32(0)
    at = ratio * np.arange(count, dtype=np.float32)
    low = at.astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    share = at - low.astype(np.float32)
    return torch.from_numpy(low), torch.from_numpy(high), torch.from_numpy(share)


class Interp(Layer):
    """The layer.

    Args:
        target: see `TargetSize`; None for the size of bottom 1.
        crop: rows and columns to leave out at the beginning and at the end of each axis.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, target: TargetSize | None, crop: Pair = (0, 0)) -> None:
        super().__init__()
        self.target = target
        self.crop = crop

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        bottom = bottoms[0]
        check_rank(bottom, 4)
        left = bottom[2] - sum(self.crop), bottom[3] - sum(self.crop)
        if min(left) < 1:
            raise ShapeError(
                f"pad_beg {-self.crop[0]} and pad_end {-self.crop[1]} leave nothing of "
                f"{list(bottom[2:])} cells"
            )
        return ((*bottom[:2], *self._size(left, bottoms)),)

    def _size(self, left: Pair, bottoms: tuple[Shape, ...]) -> Pair:
        if self.target is not None:
            return self.target.of(left)
        if len(bottoms) < 2 or len(bottoms[1]) != 4:
            raise ShapeError("use_blob_size needs a second bottom of 4 axes")
        return bottoms[1][2], bottoms[1][3]

    def forward(self, bottom: Tensor, *like: Tensor) -> Tensor:
        shapes = tuple(tuple(each.shape) for each in (bottom, *like))
        (top,) = self.top_shapes(*shapes)
        begin, end = self.crop
        height, width = bottom.shape[2:]
        part = bottom[:, :, begin : height - end, begin : width - end]
        return interpolate(part, (top[2], top[3]))


@register_layer("Interp", bottoms=range(1, 3), not_forced=(1,))
def _build(spec: LayerSpec) -> Interp:
    param = spec.param.interp_param
    for name in ("pad_beg", "pad_end"):
        if getattr(param, name) > 0:
            raise LayerParamError(f"{name} must not be above 0, got {getattr(param, name)}")
    target = None if param.use_blob_size else _read_target(param)
    layer = Interp(target=target, crop=(-param.pad_beg, -param.pad_end))
    layer.top_shapes(*spec.bottoms)
    return layer


def _read_target(param: InterpParameter) -> TargetSize:
    for name in ("shrink_factor", "zoom_factor"):
        if getattr(param, name) < 1:
            raise LayerParamError(f"{name} must be at least 1, got {getattr(param, name)}")
    shrink = param.shrink_factor if param.HasField("shrink_factor") else None
    zoom = param.zoom_factor if param.HasField("zoom_factor") else None
    size = None
    if param.HasField("height") and param.HasField("width"):
        size = (param.height, param.width)
    if size is None and shrink is None and zoom is None:
        raise LayerParamError(
            "the size of the top is missing; give height and width, zoom_factor or shrink_factor"
        )
    if size is not None and min(size) < 1 and (shrink is None) == (zoom is None):
        raise LayerParamError(f"height and width must be positive, got {list(size)}")
    return TargetSize(shrink=shrink, zoom=zoom, size=size)
