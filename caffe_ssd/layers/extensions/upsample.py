"""Upsample: enlarge by repetition; or, with a mask as bottom 1, put maxima back where they were.

Spec: other-forks.md section 4. Two layers of one name: eric612's YOLO nets repeat cells
(UpsampleDarknet is the same), SegNet inverts a max pooling whose second top is the mask.
Quirk: where the mask names a cell several times the last value wins, and each of the values gets
the whole gradient of that cell.

Shapes: N items, C channels, H, W; factors and sizes are (rows, columns).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank, check_same_shapes
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import UpsampleParameter

Pair = tuple[int, int]


class Upsample(Layer):
    """Each cell becomes a square of cells.

    Args:
        scale: its side.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if len(bottom) < 2:
            raise ShapeError(f"bottom 0 must have at least 2 axes, got shape {list(bottom)}")
        return ((*bottom[:-2], bottom[-2] * self.scale, bottom[-1] * self.scale),)

    def forward(self, bottom: Tensor) -> Tensor:
        (shape,) = self.top_shapes(tuple(bottom.shape))
        spread = bottom[..., :, None, :, None].expand(
            *bottom.shape[:-1], self.scale, -1, self.scale
        )
        return spread.reshape(shape)


class _Scatter(torch.autograd.Function):
    """Values at flat places of larger planes, zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, cells: int) -> Tensor:
        ctx.save_for_backward(places)
        # One column too many takes the values that a later one replaces: a plain scatter leaves it
        # open which of several wins.
        top = values.new_zeros(*values.shape[:2], cells + 1)
        return top.scatter_(2, _last_of_each(places, cells), values)[..., :cells]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grads[0].gather(2, places), None, None


def _last_of_each(places: Tensor, cells: int) -> Tensor:
    """The places, `cells` in place of those that are named again further on."""
    order = torch.arange(places.shape[2], device=places.device).expand_as(places)
    last = torch.full((*places.shape[:2], cells), -1, dtype=torch.int64, device=places.device)
    last = last.scatter_reduce(2, places, order, "amax")
    return places.where(last.gather(2, places) == order, cells)


def unpool(values: Tensor, mask: Tensor, size: Pair) -> Tensor:
    """Put each value at its place.

    Args:
        values: (N, C, h, w).
        mask: (N, C, h, w), flat indices into planes of H x W cells.
        size: (H, W).

    Raises:
        LayerError: an index lies outside the plane.
    """
    cells = size[0] * size[1]
    places = mask.detach().flatten(2).long()
    wrong = (places < 0) | (places >= cells)
    if bool(wrong.any()):
        raise LayerError(
            f"the mask (bottom 1) must name cells of a plane of {size[0]}x{size[1]}, "
            f"0..{cells - 1}, got {int(places[wrong][0])}"
        )
    top: Tensor = _Scatter.apply(values.flatten(2), places, cells)  # type: ignore[no-untyped-call]
    return top.reshape(*values.shape[:2], *size)


class MaskUpsample(Layer):
    """Puts the maxima of a pooling back; bottoms are values and mask.

    Args:
        scale: factors of the sizes.
        shrink: cells that the top is smaller by than the scaled size.
        size: of the top; None for the scaled size.
    """

    def __init__(self, *, scale: Pair = (2, 2), shrink: Pair = (0, 0), size: Pair | None) -> None:
        super().__init__()
        self.scale = scale
        self.shrink = shrink
        self.size = size

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_rank(bottoms[0], 4)
        check_same_shapes(bottoms)
        return ((*bottoms[0][:2], *self._size(bottoms[0])),)

    def _size(self, bottom: Shape) -> Pair:
        if self.size is not None:
            return self.size
        rows, columns = (bottom[2 + i] * self.scale[i] - self.shrink[i] for i in range(2))
        return rows, columns

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        return unpool(values, mask, self._size(tuple(values.shape)))


@register_layer("Upsample")
def _build(spec: LayerSpec) -> Upsample:
    param = spec.param.upsample_param
    masked = ("scale_h", "scale_w", "pad_out_h", "pad_out_w", "upsample_h", "upsample_w")
    given = [name for name in masked if param.HasField(name)]
    if given:
        raise LayerParamError(f"{given[0]} is for the layer with a mask as second bottom")
    return _repeating(spec, param.scale if param.HasField("scale") else 1, "scale")


@register_layer("UpsampleDarknet")
def _build_darknet(spec: LayerSpec) -> Upsample:
    return _repeating(spec, spec.param.upsample_darknet_param.stride, "stride")


def _repeating(spec: LayerSpec, scale: int, name: str) -> Upsample:
    if scale < 1:
        raise LayerParamError(f"{name} must be at least 1, got {scale}")
    layer = Upsample(scale=scale)
    layer.top_shapes(*spec.bottoms)
    return layer


@register_layer(
    "Upsample",
    bottoms=2,
    not_forced=(1,),
    when=lambda param: len(param.bottom) == 2,
    told_by="a second bottom",
)
def _build_masked(spec: LayerSpec) -> MaskUpsample:
    param = spec.param.upsample_param
    size = _size(param)
    scale = _scale(param)
    shrink = (int(param.pad_out_h), int(param.pad_out_w)) if size is None else (0, 0)
    for axis, pad, factor in zip("hw", shrink, scale, strict=True):
        if pad and factor != 2:
            raise LayerParamError(f"pad_out_{axis} needs scale 2 in that direction, got {factor}")
    layer = MaskUpsample(scale=scale, shrink=shrink, size=size)
    layer.top_shapes(*spec.bottoms)
    return layer


def _size(param: UpsampleParameter) -> Pair | None:
    if not (param.HasField("upsample_h") and param.HasField("upsample_w")):
        return None
    if min(param.upsample_h, param.upsample_w) < 2:
        raise LayerParamError(
            "upsample_h and upsample_w must be above 1, "
            f"got {param.upsample_h} and {param.upsample_w}"
        )
    return param.upsample_h, param.upsample_w


def _scale(param: UpsampleParameter) -> Pair:
    given = [name for name in ("scale_h", "scale_w") if param.HasField(name)]
    if not given:
        scale = param.scale if param.HasField("scale") else 2
        if scale < 1:
            raise LayerParamError(f"scale must be at least 1, got {scale}")
        return scale, scale
    if len(given) == 1 or param.HasField("scale"):
        raise LayerParamError("give either scale or both scale_h and scale_w")
    if min(param.scale_h, param.scale_w) < 2:
        raise LayerParamError(
            f"scale_h and scale_w must be above 1, got {param.scale_h} and {param.scale_w}"
        )
    return param.scale_h, param.scale_w
