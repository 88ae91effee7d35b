"""Crop: cut bottom 0 to the sizes of bottom 1.

Spec: caffe-layers.md section A.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class Crop(Layer):
    """The layer; bottom 1 gives sizes only and gets no gradient.

    Args:
        axis: first axis cut, not negative.
        offsets: where the window begins, one per axis from `axis` on.
    """

    def __init__(self, *, axis: int, offsets: tuple[int, ...]) -> None:
        super().__init__()
        self.axis = axis
        self.offsets = offsets

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        bottom, reference = bottoms
        if len(bottom) != len(reference):
            raise ShapeError(
                f"bottoms 0 and 1 must have the same number of axes, "
                f"got {list(bottom)} and {list(reference)}"
            )
        wanted = reference[self.axis :]
        for size, want, offset in zip(bottom[self.axis :], wanted, self.offsets, strict=True):
            if size - offset < want:
                raise ShapeError(
                    f"a window of {list(wanted)} at {list(self.offsets)} leaves bottom 0 of shape "
                    f"{list(bottom)}, which is cut from axis {self.axis} on; it must lie inside"
                )
        return ((*bottom[: self.axis], *wanted),)

    def forward(self, bottom: Tensor, reference: Tensor) -> Tensor:
        for i, offset in enumerate(self.offsets, self.axis):
            bottom = bottom.narrow(i, offset, reference.shape[i])
        return bottom


@register_layer("Crop", bottoms=2)
def _build(spec: LayerSpec) -> Crop:
    param = spec.param.crop_param
    rank = len(spec.bottoms[0])
    axis = canonical_axis(param.axis, rank)
    offsets = tuple(param.offset)
    if len(offsets) not in (0, 1, rank - axis):
        raise LayerParamError(
            f"offset takes no value, one, or one per cropped axis ({rank - axis}), "
            f"got {list(offsets)}"
        )
    if len(offsets) != rank - axis:
        offsets = (offsets[0] if offsets else 0,) * (rank - axis)
    layer = Crop(axis=axis, offsets=offsets)
    layer.top_shapes(*spec.bottoms)
    return layer
