"""Which sizes of a net's input an ONNX file can leave to its callers.

Tried out, most freedom first: the net is run at another size, what changed its shape there is free,
and ONNX Runtime must find at the other size what the net finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import caffe_ssd.engines.export.onnx_priors  # noqa: F401  (registers its writer)
from caffe_ssd.distribution import install_hint
from caffe_ssd.engines.export.part import Request, check_priors_fit, specialised
from caffe_ssd.engines.frozen_net import Constant, FrozenNet
from caffe_ssd.engines.onnx_export import is_exportable, onnx_model
from caffe_ssd.engines.onnx_layers import FixedSizeError, FreeShape
from caffe_ssd.errors import NetError, UsageError
from caffe_ssd.net.plan import Value

# Of no common measure with the usual strides but 32.
_MORE_ROWS, _MORE_COLUMNS = 64, 32
_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Model:
    """A net as ONNX.

    Args:
        net: what was written, for the sizes it has where they are free.
        data: the file's content.
        free: shapes of all values; None where a size is free.
    """

    net: FrozenNet
    data: bytes
    free: Mapping[Value, FreeShape]


def freest_model(request: Request, part: FrozenNet, inputs: Sequence[Tensor]) -> Model:
    """The ONNX model that leaves most to its callers.

    Args:
        request: what was asked for; a batch or size that was given is fixed.
        part: what shall be written.
        inputs: of the net's own or the asked sizes.

    Raises:
        UsageError: a layer cannot be written in ONNX.
        NetError: ONNX Runtime finds something else than the net.
    """
    fixed = specialised(part, inputs)
    _refuse_unwritable(fixed)
    is_image = len(inputs) == 1 and inputs[0].dim() == 4
    batch, size = request.batch is None and is_image, request.size is None and is_image
    for free_batch, free_size in dict.fromkeys([(batch, size), (batch, False), (False, False)]):
        found = _attempt(request, part, fixed, inputs, free_batch, free_size)
        if found is not None:
            return found
    raise NetError(
        "ONNX Runtime finds something else in the exported net than the net itself; nothing is "
        "written, please report this net"
    )


def _refuse_unwritable(net: FrozenNet) -> None:
    for op in net.program:
        if not isinstance(op.layer, Constant) and not is_exportable(op.layer):
            raise UsageError(
                f"layer {op.step.param.name!r} ({op.step.param.type}) cannot be written in ONNX"
            )


def _attempt(
    request: Request,
    part: FrozenNet,
    fixed: FrozenNet,
    inputs: Sequence[Tensor],
    free_batch: bool,
    free_size: bool,
) -> Model | None:
    """The model with these freedoms, or None where they are too many."""
    try:
        net = specialised(part, inputs, folds=False) if free_size else fixed
        if not all(isinstance(op.layer, Constant) or is_exportable(op.layer) for op in net.program):
            return None
        others = [_noise(_other_shape(tuple(x.shape), free_batch, free_size)) for x in inputs]
        if free_size:
            check_priors_fit(request.net, tuple(others[0].shape))
        elsewhere = specialised(part, others, folds=not free_size)
        free = _free_shapes(net, elsewhere)
        data = onnx_model(net, request.name, free)
    except (FixedSizeError, NetError):
        return None
    return Model(net=net, data=data, free=free) if _agrees(data, elsewhere, others) else None


def _other_shape(shape: tuple[int, ...], free_batch: bool, free_size: bool) -> tuple[int, ...]:
    if not (free_batch or free_size):
        return shape
    images, channels, height, width = shape
    if free_size:
        height, width = height + _MORE_ROWS, width + _MORE_COLUMNS
    return images + 1 if free_batch else images, channels, height, width


def _free_shapes(net: FrozenNet, elsewhere: FrozenNet) -> dict[Value, FreeShape]:
    """Shapes with None where the other net has another size.

    Raises:
        FixedSizeError: a constant's shape changes.
    """
    free: dict[Value, FreeShape] = {}
    for value, shape in net.shapes.items():
        other = elsewhere.shapes[value]
        if len(other) != len(shape):
            raise FixedSizeError("a blob has another number of axes")
        free[value] = tuple(a if a == b else None for a, b in zip(shape, other, strict=True))
    for op in net.program:
        if isinstance(op.layer, Constant) and any(None in free[value] for value in op.tops):
            raise FixedSizeError("a constant's shape changes")
    return free


def _agrees(data: bytes, net: FrozenNet, inputs: Sequence[Tensor]) -> bool:
    """Whether ONNX Runtime computes what the net does, but for rounding."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"an ONNX file is checked with the package onnxruntime: {install_hint('onnx')}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        feed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        got = session.run(None, feed)
    except Exception:  # its errors have no common class
        return False
    with torch.no_grad():
        want = [top.numpy() for top in net(*inputs)]
    return all(_close(a, b) for a, b in zip(want, got, strict=True))


def _close(want: NDArray[Any], got: NDArray[Any]) -> bool:
    if want.shape != got.shape:
        return False
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    return np.allclose(want, got, rtol=0, atol=_TOLERANCE * max(largest, 1e-6), equal_nan=True)


def _noise(shape: tuple[int, ...]) -> Tensor:
    """Something like a picture less its mean."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2
