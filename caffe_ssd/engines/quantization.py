"""From a float32 ONNX model to one that calculates in 8 bits, by ONNX Runtime's own tools.

Weights get a scale per output channel, every blob one scale: the range it has on real pictures.
Softmax and what follows it stay float32, so that scores keep their order.

    quantizer = Quantizer(pictures)
    quantizer.quantized(model, (8, 3, 300, 300))     # runs the pictures through the model
    quantizer.quantized(smaller, (2, 3, 300, 300))   # uses the ranges found before
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.distribution import install_hint
from caffe_ssd.engines.precision import Pictures
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.registry import Shape

# Eight bits would make equals of scores that differ by less than 1/255.
_KEPT_IN_FLOAT = frozenset({"Softmax", "Sigmoid"})


class Quantizer:
    """Makes 8-bit models of one net for inputs of any shape.

    Args:
        calibration: see `Precision`.
    """

    def __init__(self, calibration: Pictures) -> None:
        self._calibration = calibration
        # By the names of all blobs: a net at another size has the same ones, unless a layer is
        # written in other operators there.
        self._ranges: dict[tuple[str, ...], Any] = {}

    def quantized(self, model: bytes, shape: Shape) -> bytes:
        """An ONNX model with 8-bit convolutions and products in the place of float32.

        Args:
            model: with one input.
            shape: of that input, (N, C, H, W).

        Raises:
            UsageError: onnx or onnxruntime is not installed, the model has several inputs, the
                calibration has another number of channels, or gives values that are not finite.
        """
        try:
            import onnx
            from onnxruntime import quantization as library
        except ImportError as error:
            raise UsageError(
                f"int8 is prepared with onnx and onnxruntime: {install_hint('onnx')}"
            ) from error
        message = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        inputs = [given.name for given in message.graph.input]
        if len(inputs) != 1:
            raise UsageError(f"int8 is for nets with one input; this one has {len(inputs)}")
        names = tuple(name for node in message.graph.node for name in node.output)
        kinds = sorted({node.op_type for node in message.graph.node} - _KEPT_IN_FLOAT)
        with _without_advice():
            if names not in self._ranges:
                batches = _batches(self._calibration, shape)
                self._ranges[names] = _ranges(library, message, kinds, batches)
            return _rewritten(library, message, kinds, self._ranges[names])


def _ranges(
    library: Any, message: Any, kinds: list[str], batches: Iterator[NDArray[np.float32]]
) -> Any:
    """The smallest and largest value of every blob over all pictures."""
    name = message.graph.input[0].name

    class Reader(library.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.onnx"
        source.write_bytes(message.SerializeToString())
        calibrator = library.create_calibrator(
            source, kinds, augmented_model_path=str(Path(folder) / "watched.onnx")
        )
        calibrator.collect_data(Reader())
        ranges = calibrator.compute_data()
        del calibrator  # lets go of its files
    for blob, seen in ranges.items():
        if not np.isfinite([seen.lowest, seen.highest]).all():
            raise UsageError(
                f"int8: blob {blob!r} has values on the calibration's pictures that are no finite "
                "numbers; does the net have its trained weights?"
            )
    return ranges


def _rewritten(library: Any, message: Any, kinds: list[str], ranges: Any) -> bytes:
    quantizer = library.QDQQuantizer(
        message,
        True,  # per channel
        False,  # all 8 bits
        library.QuantType.QInt8,  # of weights
        library.QuantType.QUInt8,  # of blobs
        ranges,
        [],
        [],
        kinds,
        {},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # which the format asks for
    data: bytes = quantizer.model.model.SerializeToString()
    return data


def _batches(items: Pictures, shape: Shape) -> Iterator[NDArray[np.float32]]:
    """Batches of the wanted shape; the last is filled up from the beginning."""
    images, channels, *size = shape
    for start in range(0, len(items), images):
        batch = [items[i % len(items)].cpu() for i in range(start, start + images)]
        for item in batch:
            if item.shape[1] != channels:
                raise UsageError(
                    f"the net's input has {channels} channels, a picture of the calibration "
                    f"{item.shape[1]}"
                )
        yield torch.cat([_resized(item, size) for item in batch]).numpy()


def _resized(item: Tensor, size: Sequence[int]) -> Tensor:
    if list(item.shape[2:]) == list(size):
        return item
    return F.interpolate(item, tuple(size), mode="bilinear")


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
