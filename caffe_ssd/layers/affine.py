"""Which axes of the bottom a Scale or Bias covers.

Spec: caffe-layers.md section C.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Shape


def learnt_axis(bottom: Shape, *, axis: int, num_axes: int) -> tuple[int, Shape]:
    """First axis and shape of a learnt factor or offset.

    Args:
        bottom: shape of bottom 0.
        axis: first axis covered, may be negative.
        num_axes: how many; -1 for all the rest, 0 for a scalar.

    Raises:
        LayerParamError: the axes lie outside the bottom.
    """
    if num_axes < -1:
        raise LayerParamError(f"num_axes must be -1 or more, got {num_axes}")
    if num_axes == 0:
        return 0, ()
    start = canonical_axis(axis, len(bottom))
    end = len(bottom) if num_axes == -1 else start + num_axes
    if end > len(bottom):
        raise LayerParamError(
            f"axis {axis} and num_axes {num_axes} reach beyond a bottom of shape {list(bottom)}; "
            f"num_axes may be at most {len(bottom) - start}, or -1 for all the rest"
        )
    return start, bottom[start:end]


def given_axis(bottom: Shape, other: Shape, *, axis: int, what: str) -> int:
    """First axis of bottom 0 that bottom 1 covers.

    Raises:
        LayerParamError: axis out of range.
        ShapeError: bottom 1 is not shaped like the axes it covers.
    """
    start = 0 if not other else canonical_axis(axis, len(bottom))
    covered = bottom[start : start + len(other)]
    if covered != other:
        raise ShapeError(
            f"the {what} (bottom 1) of shape {list(other)} must match the axes it covers from "
            f"axis {start} of bottom 0, {list(bottom)}"
        )
    return start


def spread(values: Tensor, bottom: Tensor, axis: int) -> Tensor:
    """View values so that they broadcast over the bottom from `axis` on."""
    trailing = bottom.dim() - axis - values.dim()
    return values.reshape(*values.shape, *(1,) * trailing) if trailing else values
