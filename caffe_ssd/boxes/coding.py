"""Location codes: a box as four numbers relative to a prior, and back.

Spec: ssd-layers.md section 0.2.

p is a prior (width pw, height ph, centre pcx, pcy), g a box likewise, v the prior's four variances:

    code         encode, k = xmin, ymin, xmax, ymax                       decode
    CORNER       (g.k - p.k) / v[k]                                       p.k + v[k] * c[k]
    CENTER_SIZE  (gcx - pcx) / pw / v[0], ..., log(gw / pw) / v[2], ...   the inverse
    CORNER_SIZE  (g.k - p.k) / (pw or ph) / v[k]                          the inverse

Without variances every v is 1.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import LayerError

# What decoding works on: the host's few boxes take a fraction of the time as NumPy's arrays.
Array = TypeVar("Array", Tensor, NDArray[Any])

_PART = 16384


class CodeType(IntEnum):
    """The codes, numbered as in the prototxt's `code_type`."""

    CORNER = 1
    CENTER_SIZE = 2
    CORNER_SIZE = 3


def encode(gts: Tensor, priors: Tensor, variances: Tensor | None, code_type: CodeType) -> Tensor:
    """The four numbers that describe each box relative to its prior.

    Args:
        gts: [..., 4].
        priors: [..., 4].
        variances: [..., 4]; None: none are divided by.
        code_type: the code.

    Returns:
        [..., 4].
    """
    if code_type == CodeType.CENTER_SIZE:
        g_center, g_size = _center_size(gts)
        p_center, p_size = _center_size(priors)
        code = torch.cat([(g_center - p_center) / p_size, torch.log(g_size / p_size)], -1)
    else:
        code = gts - priors
        if code_type == CodeType.CORNER_SIZE:
            code = code / _sides(priors)
    return code if variances is None else code / variances


def decode(code: Array, priors: Array, variances: Array | None, code_type: CodeType) -> Array:
    """The boxes that the four numbers stand for; not clipped. Arrays and tensors give equal bits.

    Args:
        code: [..., 4].
        priors: [..., 4].
        variances: [..., 4]; None: none are multiplied by.
        code_type: the code.

    Returns:
        [..., 4].
    """
    if variances is not None:
        code = code * variances
    boxes: Array
    if code_type == CodeType.CORNER:
        boxes = priors + code
        return boxes
    if code_type == CodeType.CORNER_SIZE:
        boxes = priors + code * _sides(priors)
        return boxes
    p_center, p_size = _center_size(priors)
    center = code[..., :2] * p_size + p_center
    half = _exp(code[..., 2:]) * p_size / 2
    return _joined(center - half, center + half)


def check_priors(
    priors: Tensor,
    variances: Tensor | None,
    code_type: CodeType,
    *,
    numbers: Tensor | None = None,
) -> None:
    """Refuse priors that a code cannot work with.

    Args:
        priors: [P, 4].
        variances: [P, 4], or None when the code does not use any.
        code_type: the code.
        numbers: [P] what to call the priors in a message; by default 0, 1, ...

    Raises:
        LayerError: a prior without width or height under a code that divides by it, or a variance
            that is not positive; names the first such prior.
    """
    if code_type != CodeType.CORNER:
        rule = "a width and a height, xmin < xmax and ymin < ymax"
        _refuse_first(priors, are_flat(priors), numbers, rule)
    if variances is not None:
        _refuse_first(variances, (variances <= 0).any(1), numbers, "positive variances")


def unusable_priors(priors: Tensor, variances: Tensor | None, code_type: CodeType) -> Tensor:
    """Which priors `check_priors` would refuse, without an error: [..., P] bool."""
    wrong = torch.zeros(priors.shape[:-1], dtype=torch.bool, device=priors.device)
    if code_type != CodeType.CORNER:
        wrong |= are_flat(priors)
    if variances is not None:
        wrong |= (variances <= 0).any(-1)
    return wrong


def are_flat(boxes: Array) -> Array:
    """Which boxes, [..., 4], have no width or no height: [...] bool."""
    # Two sides, each for itself: to compare pairs of numbers takes several times as long.
    return (boxes[..., 2] <= boxes[..., 0]) | (boxes[..., 3] <= boxes[..., 1])


def _refuse_first(values: Tensor, wrong: Tensor, numbers: Tensor | None, rule: str) -> None:
    if not bool(wrong.any()):
        return
    index = int(wrong.nonzero()[0])
    number = index if numbers is None else int(numbers[index])
    shown = ", ".join(f"{value:g}" for value in values[index].tolist())
    raise LayerError(f"prior {number} must have {rule}, got ({shown})")


def _center_size(boxes: Array) -> tuple[Array, Array]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def _sides(boxes: Array) -> Array:
    size = boxes[..., 2:] - boxes[..., :2]
    return _joined(size, size)


def _joined(low: Array, high: Array) -> Array:
    if isinstance(low, Tensor):
        return torch.cat([low, high], -1)
    return np.concatenate([low, high], -1)


def _exp(x: Array) -> Array:
    if isinstance(x, Tensor):
        return torch.exp(x)
    # Everywhere PyTorch's, as NumPy's has other last bits; in parts too small for its threads,
    # which on a busy machine wait longer for each other than all of this takes.
    out = x.copy(order="F")
    flat = out.T.reshape(-1)
    for start in range(0, flat.size, _PART):
        part = torch.from_numpy(flat[start : start + _PART])
        torch.exp(part, out=part)
    return out
