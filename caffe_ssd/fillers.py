"""Initial values of learnt blobs.

Spec: caffe-solver.md sections 9 and 10. All arithmetic is float32. Uniform and xavier values equal
the reference's to the bit; normal values match in distribution only.

Quirk: "fan in" is count / shape[0], so for a Deconvolution weight it belongs to the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.blobs import MAX_VALUES
from caffe_ssd.proto.caffe_pb2 import FillerParameter
from caffe_ssd.random import CaffeRandom

_Values = NDArray[np.float32]
_Filler = Callable[[tuple[int, ...], FillerParameter, CaffeRandom], _Values]


def fill(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> Tensor:
    """A new float32 tensor filled as the message says.

    Args:
        shape: its shape.
        filler: the message; an empty one means constant 0.
        rng: where random values come from, in row-major order.

    Raises:
        LayerParamError: unknown type, invalid settings, no elements, or a shape the type cannot
            fill.
    """
    if filler.type not in _FILLERS:
        known = ", ".join(sorted(_FILLERS))
        raise LayerParamError(f"unknown filler type {filler.type!r}; known types: {known}")
    count = math.prod(shape)
    if count == 0:
        raise LayerParamError(f"cannot fill a blob without elements, shape {list(shape)}")
    if count > MAX_VALUES:
        raise LayerParamError(
            f"a blob of shape {list(shape)} would have {count} values; {MAX_VALUES} are the most"
        )
    _check_finite(filler)
    if filler.sparse != -1 and filler.type != "gaussian":
        raise LayerParamError(f"sparse needs filler type 'gaussian', got {filler.type!r}")
    try:
        values = _FILLERS[filler.type](shape, filler, rng)
    except MemoryError as error:
        raise LayerParamError(
            f"no memory for a blob of shape {list(shape)}: it takes {4 * count} bytes, and more "
            "while it is filled"
        ) from error
    return torch.from_numpy(values.reshape(shape))


def _check_finite(filler: FillerParameter) -> None:
    for name in ("value", "min", "max", "mean", "std"):
        number = getattr(filler, name)
        # Infinity as a constant is a mask; nothing can be drawn from it.
        if math.isnan(number) or (math.isinf(number) and name != "value"):
            raise LayerParamError(f"filler {name} is {number:g}; it must be a finite number")


def _constant(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    return np.full(shape, filler.value, np.float32)


def _uniform(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    if filler.min > filler.max:
        raise LayerParamError(f"filler min {filler.min:g} must not exceed max {filler.max:g}")
    if abs(filler.max - filler.min) > float(np.finfo(np.float32).max):
        raise LayerParamError(
            f"filler min {filler.min:g} and max {filler.max:g} are too far apart for float32"
        )
    return rng.uniform(filler.min, filler.max, math.prod(shape))


def _gaussian(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    if filler.std <= 0:
        raise LayerParamError(f"filler std must be positive, got {filler.std:g}")
    if filler.sparse < -1:
        raise LayerParamError(f"filler sparse must be -1 or more, got {filler.sparse}")
    count = math.prod(shape)
    values = rng.normal(filler.mean, filler.std, count)
    if filler.sparse == -1:
        return values
    rows = shape[0] if shape else 1
    if filler.sparse > rows:
        raise LayerParamError(f"filler sparse {filler.sparse} exceeds the blob's {rows} rows")
    kept = rng.bernoulli(float(np.float32(filler.sparse) / np.float32(rows)), count)
    return np.where(kept, values, np.float32(0))


def _positive_unitball(
    shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom
) -> _Values:
    _check_rank(shape, filler)
    rows = shape[0] if shape else 1
    values = rng.uniform(0, 1, math.prod(shape)).reshape(rows, -1)
    normalized: _Values = values / values.sum(1, keepdims=True)
    return normalized


def _xavier(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    bound = float(np.sqrt(np.float32(3) / _fan(shape, filler)))
    return rng.uniform(-bound, bound, math.prod(shape))


def _msra(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    std = float(np.sqrt(np.float32(2) / _fan(shape, filler)))
    return rng.normal(0, std, math.prod(shape))


def _bilinear(shape: tuple[int, ...], filler: FillerParameter, rng: CaffeRandom) -> _Values:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise LayerParamError(
            f"filler 'bilinear' needs 4 axes and a square kernel, got shape {list(shape)}"
        )
    factor = (shape[3] + 1) // 2
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    ramp = 1 - np.abs(np.arange(shape[3], dtype=np.float32) / factor - np.float32(centre))
    return np.broadcast_to(np.outer(ramp, ramp), shape).astype(np.float32)


def _fan(shape: tuple[int, ...], filler: FillerParameter) -> np.float32:
    """What `variance_norm` divides by."""
    _check_rank(shape, filler)
    count = math.prod(shape)
    fan_in = count // (shape[0] if shape else 1)
    fan_out = count // (shape[1] if len(shape) > 1 else 1)
    if filler.variance_norm == FillerParameter.FAN_IN:
        return np.float32(fan_in)
    if filler.variance_norm == FillerParameter.FAN_OUT:
        return np.float32(fan_out)
    return np.float32(fan_in + fan_out) / np.float32(2)


def _check_rank(shape: tuple[int, ...], filler: FillerParameter) -> None:
    if len(shape) > 4:
        raise LayerParamError(
            f"filler {filler.type!r} needs at most 4 axes, got shape {list(shape)}"
        )


_FILLERS: dict[str, _Filler] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
