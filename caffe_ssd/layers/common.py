"""What many layers share: axes, learnt blobs, refusals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.fillers import fill
from caffe_ssd.layers.registry import LayerSpec, Shape
from caffe_ssd.proto.caffe_pb2 import FillerParameter

# Under this key a net notes (name, type) of the layer in the metadata of its tops' autograd nodes.
MAKER = "caffe layer"

NO_GRADIENT_HINT = (
    "set propagate_down: false for this bottom, or lr_mult: 0 in the layers below, "
    "so that none is asked for"
)


def constant(value: float) -> FillerParameter:
    """The filler that sets every element to one value."""
    return FillerParameter(type="constant", value=value)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether there is neither NaN nor infinity."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def canonical_axis(axis: int, rank: int, what: str = "axis") -> int:
    """The axis counted from the front; -1 is the last one (caffe-net.md section 1).

    Raises:
        LayerParamError: outside -rank..rank-1.
    """
    if not -rank <= axis < rank:
        raise LayerParamError(
            f"{what} {axis} is out of range for a bottom with {rank} axes; "
            f"allowed: {-rank}..{rank - 1}"
        )
    return axis % rank


def learnt_blobs(
    spec: LayerSpec, *blobs: tuple[Shape, FillerParameter]
) -> tuple[nn.Parameter, ...]:
    """New blobs in blob order, each given by its shape and filler.

    Values that the layer's message carries replace the fillers, which then draw nothing: the blobs
    stay zero for the net to load (caffe-net.md section 6).
    """
    if spec.param.blobs:
        return tuple(nn.Parameter(torch.zeros(shape)) for shape, _ in blobs)
    return tuple(nn.Parameter(fill(shape, filler, spec.runtime.rng)) for shape, filler in blobs)


def refuse_in_place(spec: LayerSpec) -> None:
    """Refuse a top that has the name of a bottom.

    Raises:
        LayerParamError: there is one.
    """
    for top in spec.param.top:
        if top in spec.param.bottom:
            raise LayerParamError(f"cannot work in place, but top {top!r} is also a bottom")


def check_rank(shape: Shape, rank: int) -> None:
    """Check the number of axes of bottom 0.

    Raises:
        ShapeError: another number.
    """
    if len(shape) != rank:
        raise ShapeError(f"bottom 0 must have {rank} axes, got shape {list(shape)}")


def check_channels(shape: Shape) -> int:
    """The number of channels of bottom 0, (N, C, ...).

    Raises:
        ShapeError: it has no such axis.
    """
    if len(shape) < 2:
        raise ShapeError(f"bottom 0 must have at least 2 axes, got shape {list(shape)}")
    return shape[1]


def check_same_shapes(bottoms: tuple[Shape, ...]) -> None:
    """Check that all bottoms are shaped like the first.

    Raises:
        ShapeError: one is not.
    """
    for i, shape in enumerate(bottoms):
        if shape != bottoms[0]:
            raise ShapeError(
                f"all bottoms must have the same shape, "
                f"got {list(bottoms[0])} and {list(shape)} (bottom {i})"
            )


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, top: Tensor, bottom: Tensor, what: str) -> Tensor:
        ctx.what = what
        return top.view_as(top)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        if ctx.needs_input_grad[1]:
            layer, layer_type = ctx.metadata.get(MAKER, ("", ""))  # in a net, which sets it
            raise LayerError(
                f"has no gradient with respect to its {ctx.what}; {NO_GRADIENT_HINT}",
                layer=layer,
                layer_type=layer_type,
            )
        return grads[0], None, None


def forbid_gradient(top: Tensor, bottom: Tensor, what: str) -> Tensor:
    """The top, arranged so that a backward pass that asks for the bottom's gradient fails.

    Args:
        top: result of the layer.
        bottom: an input without gradient, such as labels.
        what: what the bottom is, for the message.
    """
    if not (torch.is_grad_enabled() and bottom.requires_grad):
        return top
    result: Tensor = _NoGradient.apply(top, bottom, what)  # type: ignore[no-untyped-call]
    return result
