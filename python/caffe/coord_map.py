"""Maps between the coordinates of two tops of a net spec, and the Crop that aligns them.

Spec: caffe-net.md section 17.

A map (axis, scale, shift) takes coordinate x of one top to scale * x + shift of another, on all
axes from `axis` on; axis None is the identity's. Scales and shifts have one value, or one per axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffe.net_spec import Function, Top, layers
from caffe_ssd.errors import CaffeError, NetError

# Layers whose tops lie exactly over their bottoms.
PASS_THROUGH_LAYERS = (
    *("AbsVal", "BatchNorm", "Bias", "BNLL", "Dropout", "Eltwise", "ELU", "Log", "LRN", "Exp"),
    *("GroupNorm", "MVN", "Power", "ReLU", "PReLU", "Scale", "Sigmoid", "Split", "TanH"),
    *("Threshold", "BN", "HardSwish", "ReLU6", "ShuffleChannel", "Swish"),
)

_BOTH_AXES_FIELDS = (
    *("pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"),
    *("pad_l", "pad_r", "pad_t", "pad_b"),
)


class UndefinedMapException(CaffeError):
    """A layer's type has no coordinate map."""


class AxisMismatchException(CaffeError):
    """Two maps begin at different axes."""


class MisalignedError(CaffeError, AssertionError):
    """No crop can lay one top over another."""


class CoordMap(NamedTuple):
    """See the module's docstring."""

    axis: int | None
    scale: Any
    shift: Any


IDENTITY = CoordMap(None, 1, 0)


def _numbers(value: Any) -> NDArray[np.float64]:
    return np.array(value, np.float64, ndmin=1)


def _params(fn: Function, field: str) -> Mapping[str, Any]:
    """A layer's keywords, whether given directly or in a dict."""
    params: Mapping[str, Any] = fn.params.get(field, fn.params)
    return params


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """(axis, stride, kernel size with dilation, pad) of a layer that slides a window.

    Raises:
        UndefinedMapException: sizes are given by _h and _w, a pad by its sides, or there is no
            kernel size.
    """
    params = _params(fn, "pooling_param" if fn.type_name == "Pooling" else "convolution_param")
    unsupported = sorted(set(_BOTH_AXES_FIELDS).intersection(params))
    if unsupported or "kernel_size" not in params:
        what = f"not {unsupported[0]}" if unsupported else "which is missing"
        raise UndefinedMapException(f"the map of a {fn.type_name} needs kernel_size, {what}")
    kernel = (_numbers(params["kernel_size"]) - 1) * _numbers(params.get("dilation", 1)) + 1
    stride, pad = _numbers(params.get("stride", 1)), _numbers(params.get("pad", 0))
    return int(params.get("axis", 1)), stride, kernel, pad


def crop_params(fn: Function) -> tuple[int, Any]:
    """(axis, offset) of a Crop."""
    params = _params(fn, "crop_param")
    return int(params.get("axis", 2)), _numbers(params.get("offset", 0))


def coord_map(fn: Function) -> CoordMap:
    """The map of one layer.

    Raises:
        UndefinedMapException: its type has none.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return CoordMap(axis, 1 / stride, (pad - (kernel - 1) / 2) / stride)
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return CoordMap(axis, stride, (kernel - 1) / 2 - pad)
    if fn.type_name in PASS_THROUGH_LAYERS:
        return IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return CoordMap(axis - 1, 1, -offset)
    raise UndefinedMapException(f"layers of type {fn.type_name} have no coordinate map")


def compose(base_map: tuple[Any, Any, Any], next_map: tuple[Any, Any, Any]) -> CoordMap:
    """The map that applies `next_map` first, then `base_map`.

    Raises:
        AxisMismatchException: they begin at different axes.
    """
    axis1, scale1, shift1 = base_map
    axis2, scale2, shift2 = next_map
    if axis1 is not None and axis2 is not None and axis1 != axis2:
        raise AxisMismatchException(f"maps of axes {axis1} and {axis2} cannot be composed")
    axis = axis2 if axis1 is None else axis1
    return CoordMap(axis, scale1 * scale2, scale1 * shift2 + shift1)


def inverse(coord_map: tuple[Any, Any, Any]) -> CoordMap:
    """The map backwards."""
    axis, scale, shift = coord_map
    return CoordMap(axis, 1 / scale, -shift / scale)


def coord_map_from_to(top_from: Top, top_to: Top) -> CoordMap:
    """The map between two tops that depend on a common one.

    Raises:
        RuntimeError: no path of layers with maps connects them.
        AxisMismatchException: see `compose`.
    """
    from_maps = dict(_walk_back(top_from))
    for top, to_map in _walk_back(top_to):
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise NetError("the tops are not connected by layers that have coordinate maps")


def _walk_back(top: Top) -> Iterator[tuple[Top, CoordMap]]:
    """Every top that `top` depends on, itself first, with the map from there."""
    maps = {top: IDENTITY}
    frontier = [top]
    while frontier:
        current = frontier.pop()
        yield current, maps[current]
        # The second bottom of a Crop gives it a size, not a position.
        bottoms = current.fn.inputs[: 1 if current.fn.type_name == "Crop" else None]
        try:
            for bottom in bottoms:
                if bottom not in maps:
                    maps[bottom] = compose(maps[current], coord_map(current.fn))
                    frontier.append(bottom)
        except UndefinedMapException:
            continue


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts `top_from` to the place and size of `top_to`.

    Raises:
        MisalignedError: their scales differ, or `top_to` begins before `top_from` or between its
            pixels.
        RuntimeError: see `coord_map_from_to`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    for wanted, holds in (
        ("scale 1", np.all(scale == 1)),
        ("shift <= 0", np.all(np.less_equal(shift, 0))),
        ("a shift by whole pixels", np.all(np.round(shift) == shift)),
    ):
        if not holds:
            raise MisalignedError(
                f"a crop needs {wanted}, got scale {np.ravel(scale)}, shift {np.ravel(shift)}"
            )
    offset = [int(n) for n in -np.round(np.ravel(shift))]
    crop_axis = 2 if axis is None else axis + 1
    top: Top = layers.Crop(top_from, top_to, crop_param={"axis": crop_axis, "offset": offset})
    return top
