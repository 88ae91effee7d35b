"""Resizing with the conventions of the image libraries that pycaffe relied on.

Spec: caffe-net.md section 14 (`resize_image`).
Quirk: with 1 or 3 channels an enlarged image fades towards its smallest value at the border, as
    positions half a pixel outside count as that value.
Quirk: with other numbers of channels the corner pixels stay where they are.

Images are (H, W, C). Nothing is averaged when an image shrinks.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import UsageError

Image = NDArray[Any]
_Doubles = NDArray[np.float64]


def resize_padded(image: _Doubles, size: tuple[int, int], order: int) -> _Doubles:
    """Resize with aligned pixel edges; everything outside the image is 0.

    Args:
        image: (H, W, C).
        size: (height, width) of the result.
        order: 0 takes the nearest pixel, 1 is bilinear, 3 is bicubic.

    Raises:
        UsageError: another order.
    """
    result = image
    for axis in (0, 1):
        length, new = image.shape[axis], size[axis]
        result = _interpolate(result, axis, (np.arange(new) + 0.5) * (length / new) - 0.5, order)
    return result.clip(image.min(), image.max()) if order == 3 else result  # cubic overshoots


def zoom(image: _Doubles, size: tuple[int, int], order: int) -> _Doubles:
    """Resize with aligned corner pixels; see `resize_padded`. Orders 0 and 1."""
    if order > 1:
        raise UsageError(f"interp_order is {order}; with {image.shape[2]} channels allowed: 0, 1")
    for axis in (0, 1):
        length, new = image.shape[axis], size[axis]
        image = _interpolate(image, axis, np.arange(new) * ((length - 1) / max(new - 1, 1)), order)
    return image


def _interpolate(image: _Doubles, axis: int, at: _Doubles, order: int) -> _Doubles:
    """The image at fractional positions along one axis, 0 outside."""
    if order not in (0, 1, 3):
        raise UsageError(f"interp_order is {order}; allowed: 0 (nearest), 1 (linear), 3 (cubic)")
    if order == 0:
        return _take(image, axis, np.floor(at + 0.5).astype(np.intp))
    base = np.floor(at)
    weights = _linear(at - base) if order == 1 else _cubic(at - base)
    first = base.astype(np.intp) - (0 if order == 1 else 1)
    shape = [-1 if i == axis else 1 for i in range(image.ndim)]
    terms = [
        weight.reshape(shape) * _take(image, axis, first + i) for i, weight in enumerate(weights)
    ]
    result: _Doubles = np.sum(terms, axis=0)
    return result


def _take(image: _Doubles, axis: int, at: NDArray[np.intp]) -> _Doubles:
    length = image.shape[axis]
    taken = image.take(at.clip(0, length - 1), axis)
    shape = [-1 if i == axis else 1 for i in range(image.ndim)]
    inside = ((at >= 0) & (at < length)).reshape(shape)
    return np.where(inside, taken, 0.0)


def _linear(t: _Doubles) -> tuple[_Doubles, ...]:
    return 1 - t, t


def _cubic(t: _Doubles) -> tuple[_Doubles, ...]:
    """Weights of the pixels at -1, 0, 1, 2 (Catmull and Rom's curve)."""
    return (
        0.5 * t * (-1 + t * (2 - t)),
        1 + 0.5 * t * t * (3 * t - 5),
        0.5 * t * (1 + t * (4 - 3 * t)),
        0.5 * t * t * (t - 1),
    )


def check_image(image: Image, size: tuple[int, int]) -> None:
    """Check what is to be resized.

    Raises:
        UsageError: not (H, W, C), or something is empty.
    """
    if image.ndim != 3 or prod(image.shape) == 0 or min(size) < 1:
        raise UsageError(
            f"an image (height, width, channels) with pixels and a size > 0 are needed, "
            f"got {list(image.shape)} and {list(size)}"
        )
