"""What PyTorch and Python say when a layer cannot be built or run, as an error about the layer.

Layers refuse what they can foresee in their own words. What remains is named here: sizes that
nothing can hold, memory that is not there, shapes that a formula did not expect.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import torch

from caffe_ssd.errors import LayerError, ShapeError, first_line
from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.blobs import MAX_VALUES

NAMED = (
    ArithmeticError,
    IndexError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that the settings or the bottoms of a layer can cause."""

_BYTES = re.compile(r"allocate (\d+) bytes|allocate ([\d.]+ \w+)\.")
_NO_MEMORY = re.compile(
    r"not enough memory|can't allocate memory|out of memory|[Oo]verflow|Storage size calculation"
    r"|Invalid buffer size|array is too big|Unable to allocate"
)


def check_top_sizes(shapes: Sequence[Shape], readers: Callable[[int], Sequence[str]]) -> None:
    """Check that the tops are small enough to be blobs.

    Args:
        shapes: of the tops.
        readers: names of the layers that read a top, by its index.

    Raises:
        ShapeError: one has more values than a blob can, or a negative axis.
    """
    for index, shape in enumerate(shapes):
        if min(shape, default=0) < 0:
            raise ShapeError(f"top {index} would have the shape {list(shape)}")
        if (count := math.prod(shape)) > MAX_VALUES:
            raise ShapeError(
                f"top {index} would have the shape {list(shape)}, {count} values of 4 bytes each; "
                f"a blob has at most {MAX_VALUES}{_read_by(readers(index))}"
            )


def _read_by(names: Sequence[str]) -> str:
    return f" (read by {', '.join(map(repr, names))})" if names else ""


def memory_fault(error: BaseException, shapes: Sequence[Sequence[int]]) -> LayerError | None:
    """The error to raise where memory could not be had; None if that is not what happened.

    Args:
        error: what was raised.
        shapes: of the layer's bottoms.
    """
    what = str(error)
    is_torch = isinstance(error, RuntimeError) and _NO_MEMORY.search(what)
    if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or is_torch):
        return None
    match = _BYTES.search(what)
    wanted = f"{match[1]} bytes" if match and match[1] else match[2] if match else "memory"
    return LayerError(
        f"{wanted} could not be had for bottoms of shape {_text(shapes)}; a smaller batch or "
        f"picture needs less ({first_line(error)})"
    )


def layer_fault(error: BaseException, shapes: Sequence[Sequence[int]], what: str) -> LayerError:
    """The error to raise where a layer failed.

    Args:
        error: what was raised.
        shapes: of the layer's bottoms.
        what: what could not be done with them, in words.
    """
    fault = memory_fault(error, shapes)
    if fault is not None:
        return fault
    return LayerError(
        f"cannot {what} bottoms of shape {_text(shapes)}: "
        f"{type(error).__name__}: {first_line(error)}"
    )


def _text(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) if shapes else "none"
