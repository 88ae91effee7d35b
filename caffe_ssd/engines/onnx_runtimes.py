"""Engines that run the exported part of a net in another library, and the rest in PyTorch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.devices import give_back_freed_memory
from caffe_ssd.distribution import install_hint
from caffe_ssd.engines.engine import FLOAT, Engine, Runner
from caffe_ssd.engines.folding import clamp_before_1x1
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.engines.onnx_export import is_exportable, onnx_model
from caffe_ssd.engines.onnx_graph import Weights, outside_as_inputs
from caffe_ssd.engines.precision import Precision
from caffe_ssd.engines.quantization import Quantizer
from caffe_ssd.errors import UsageError

Arrays = Sequence[NDArray[np.float32]]


class OnnxEngine(Engine):
    """An engine that is fed an ONNX model on the CPU."""

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        super().__init__(net, precision)
        self._quantizer = Quantizer(precision.calibration)

    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        net = self.adapt(net)
        head, tail = net.split(lambda op: is_exportable(op.layer))
        if not head.outputs:  # the first layer already has no equal in ONNX
            return tail
        run_head = self._loaded(head, inputs)
        give_back_freed_memory()  # what was written, read and compiled lies in between

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            tops = run_head([np.ascontiguousarray(x.numpy()) for x in tensors])
            outputs: tuple[Tensor, ...] = tail(*map(torch.from_numpy, tops), *tensors)
            return outputs

        return run

    def _loaded(self, head: FrozenNet, inputs: tuple[Tensor, ...]) -> Callable[[Arrays], Arrays]:
        if self.precision.name == "int8":
            shape = tuple(inputs[0].shape)
            return self.load(self._quantizer.quantized(onnx_model(head), shape), {})
        weights: Weights = {}
        return self.load(onnx_model(head, apart=weights), weights)

    def adapt(self, net: FrozenNet) -> FrozenNet:
        """The net after rewrites that suit the library."""
        return net

    @abstractmethod
    def load(self, model: bytes, weights: Weights) -> Callable[[Arrays], Arrays]:
        """Make what runs a model: from the inputs' arrays, in order, to new arrays.

        Args:
            model: in ONNX.
            weights: the large ones, which are not in the model, by name; they need no copy.
        """


class OnnxRuntimeEngine(OnnxEngine):
    """ONNX Runtime, on as many threads as PyTorch has.

    Raises:
        UsageError: the package is not installed.
    """

    name = "onnxruntime"
    precisions = ("fp32", "int8")

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        super().__init__(net, precision)
        self._library = _library("onnxruntime", "onnx")

    @property
    def version(self) -> str:
        return f"{self.name} {self._library.__version__}"

    def load(self, model: bytes, weights: Weights) -> Callable[[Arrays], Arrays]:
        options = self._library.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        values = [self._library.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
        session = self._library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]
        kept = list(weights.values())  # the session reads some where they lie, and owns none

        def run(arrays: Arrays, kept: object = kept) -> Arrays:
            tops: Arrays = session.run(None, dict(zip(names, arrays, strict=True)))
            return tops

        return run


class OpenVinoEngine(OnnxEngine):
    """OpenVINO, on as many threads as PyTorch has.

    Raises:
        UsageError: the package is not installed.
    """

    name = "openvino"
    precisions = ("fp32", "bf16", "int8")

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        super().__init__(net, precision)
        self._library = _library("openvino", "openvino")

    @property
    def version(self) -> str:
        return f"{self.name} {self._library.__version__.split('-')[0]}"

    def adapt(self, net: FrozenNet) -> FrozenNet:
        return net.rewritten(clamp_before_1x1)

    def load(self, model: bytes, weights: Weights) -> Callable[[Arrays], Arrays]:
        core = openvino_core()
        read = core.read_model(outside_as_inputs(model) if weights else model)
        self._put_in(read, weights)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if self.precision.name == "bf16" else "f32",
            # Two processes would be tied to the same cores, and a busy core is waited for.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(read, "CPU", settings)
        request = compiled.create_infer_request()
        outputs = compiled.outputs

        def run(arrays: Arrays) -> Arrays:
            results = request.infer(list(arrays), share_inputs=True, share_outputs=True)
            # Copied: the request writes its next results into the same memory.
            return [results[output].copy() for output in outputs]

        return run

    def _put_in(self, model: Any, weights: Weights) -> None:
        """Make constants of the inputs that are weights; they share the arrays' memory."""
        constant = getattr(self._library, "op", None) or self._library.runtime.op
        for parameter in model.get_parameters():
            array = weights.get(parameter.get_friendly_name())
            if array is not None:
                shared = constant.Constant(array, shared_memory=True)  # keeps the array alive
                parameter.output(0).replace(shared.output(0))
                model.remove_parameter(parameter)


@cache
def openvino_core() -> Any:
    """OpenVINO itself, made once."""
    # One for the process, which never ends: each would give the thread another stack for signal
    # handlers and take its memory away at its own end, used or not. The next Ctrl-C is a crash.
    return _library("openvino", "openvino").Core()


def _library(package: str, extra: str) -> Any:
    """An optional package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return __import__(package)
    except ImportError as error:
        raise UsageError(
            f"the engine {package} needs its package: {install_hint(extra)}"
        ) from error
