"""Reorg: trade rows and columns for channels, in Darknet's order (YOLOv2).

Spec: other-forks.md section 8. From eric612 and Intel.
Quirk: the order is not that of space-to-depth: cells are dealt out as if the bottom had the shape
that the reversed layer would make of it, so that the reversed layer does not undo the other.

Shapes: N items, C channels, H, W; s is the stride.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


def to_depth(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) to (N, C s s, H / s, W / s).

    Flat values are read as (C / (s s), H, s, W, s) and written as (s, s, C / (s s), H, W).
    """
    channels, height, width = x.shape[1:]
    inner = channels // stride**2
    cells = x.reshape(-1, inner, height, stride, width, stride).permute(0, 3, 5, 1, 2, 4)
    return cells.reshape(-1, channels * stride**2, height // stride, width // stride)


def to_space(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) to (N, C / (s s), H s, W s), the order read the other way round.

    Flat values are read as (s, s, C / (s s), H, W) and written as (C / (s s), H, s, W, s).
    """
    channels, height, width = x.shape[1:]
    inner = channels // stride**2
    cells = x.reshape(-1, stride, stride, inner, height, width).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(-1, inner, height * stride, width * stride)


class Reorg(Layer):
    """The layer.

    Args:
        stride: s.
        reverse: make planes larger rather than smaller.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, stride: int, reverse: bool = False) -> None:
        super().__init__()
        self.stride = stride
        self.reverse = reverse

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        images, channels, height, width = bottom
        square = self.stride**2
        if channels % square:
            raise ShapeError(
                f"stride {self.stride} needs a multiple of {square} channels, got {channels}"
            )
        if self.reverse:
            return ((images, channels // square, height * self.stride, width * self.stride),)
        if height % self.stride or width % self.stride:
            raise ShapeError(
                f"stride {self.stride} must divide height and width, got {list(bottom)}"
            )
        return ((images, channels * square, height // self.stride, width // self.stride),)

    def forward(self, bottom: Tensor) -> Tensor:
        return to_space(bottom, self.stride) if self.reverse else to_depth(bottom, self.stride)


@register_layer("Reorg")
def _build(spec: LayerSpec) -> Reorg:
    param = spec.param.reorg_param
    if not param.HasField("stride") or param.stride < 1:
        raise LayerParamError("stride is missing or 0; give at least 1")
    layer = Reorg(stride=param.stride, reverse=param.reverse)
    layer.top_shapes(*spec.bottoms)
    return layer
