"""Arithmetic other than float32, only ever by name.

bf16 keeps weights and blobs in bfloat16. int8 rounds both to 8 bits, with a scale per output
channel of the weights and one per blob, found by running pictures through the float32 net.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import UsageError

PRECISIONS = ("fp32", "bf16", "int8")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How an engine calculates.

    Args:
        name: one of `PRECISIONS`.
        calibration: for int8: inputs of the net, one item each (1, C, H, W), a few hundred.

    Raises:
        UsageError: an unknown name, or int8 without calibration.
    """

    name: str = "fp32"
    calibration: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        if self.name not in PRECISIONS:
            raise UsageError(f"no precision {self.name!r}; there are: {', '.join(PRECISIONS)}")
        if self.name == "int8" and not self.calibration:
            raise UsageError(
                "int8 needs pictures to calibrate with, a few hundred of the real kind"
            )


def quantized(model: bytes, calibration: Sequence[Tensor], shape: Sequence[int]) -> bytes:
    """An ONNX model with 8-bit convolutions and products in the place of float32.

    Args:
        model: with one input.
        calibration: see `Precision`.
        shape: of the model's input; items are put together to batches of it.

    Raises:
        UsageError: onnx or onnxruntime is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization as library
    except ImportError as error:
        raise UsageError(
            "int8 is prepared with onnx and onnxruntime: pip install 'caffe-ssd[onnx]'"
        ) from error
    message: Any = onnx.load_from_string(model)
    reader = _reader(library, message.graph.input[0].name, calibration, shape)
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        target = Path(folder) / "quantized.onnx"
        library.quantize_static(
            message,
            str(target),
            reader,
            quant_format=library.QuantFormat.QDQ,
            per_channel=True,
            activation_type=library.QuantType.QUInt8,
            weight_type=library.QuantType.QInt8,
        )
        return target.read_bytes()


def _reader(library: Any, name: str, calibration: Sequence[Tensor], shape: Sequence[int]) -> Any:
    """What the library draws its calibration from."""
    batches = _batches(calibration, shape)

    class Reader(library.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    return Reader()


def _batches(items: Sequence[Tensor], shape: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Batches of the wanted size; the last is filled up from the beginning."""
    size = shape[0]
    for start in range(0, len(items), size):
        batch = [items[i % len(items)] for i in range(start, start + size)]
        yield np.concatenate([item.cpu().numpy() for item in batch])


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keeps the library's advice about other ways to prepare a model out of the log."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
