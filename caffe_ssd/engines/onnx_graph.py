"""Builds an ONNX model node by node; knows nothing of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import UsageError

# Opset 13 has every operator used here and is read by every runtime of the last years.
OPSET = 13
IR_VERSION = 8


Dims = tuple[int | str | None, ...]
"""A shape in a file: numbers, names of sizes that callers choose, None for what follows."""

Weights = dict[str, NDArray[np.float32]]
"""Arrays by the names that nodes know them by."""

OUTSIDE = "weights"
_LARGE = 1024  # values


class OnnxGraph:
    """A graph under construction.

    Args:
        name: of the graph.
        prefix: of the names of inner values.
        apart: gets the large tensors of float32, uncopied; the model says that they are in a file,
            `OUTSIDE`, which nobody writes. None: everything is inside.

    Raises:
        UsageError: the package onnx is not installed.
    """

    def __init__(self, name: str, prefix: str = "inner", apart: Weights | None = None) -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError as error:
            raise UsageError(
                f"ONNX models are written with the package onnx: {install_hint('onnx')}"
            ) from error
        self.name = name
        self._helper, self._numpy_helper = helper, numpy_helper
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._prefix = prefix
        self._apart = apart
        self._fresh = 0

    def node(
        self, op_type: str, inputs: Sequence[str], output: str | None = None, **attributes: Any
    ) -> str:
        """Append a node with one output; returns the output's name, a new one if none is given."""
        output = self.fresh() if output is None else output
        self._nodes.append(self._helper.make_node(op_type, list(inputs), [output], **attributes))
        return output

    def nodes(
        self, op_type: str, inputs: Sequence[str], count: int, **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs; returns their new names."""
        outputs = [self.fresh() for _ in range(count)]
        self._nodes.append(self._helper.make_node(op_type, list(inputs), outputs, **attributes))
        return outputs

    def split(self, value: str, sizes: Sequence[int], outputs: Sequence[str], *, axis: int) -> None:
        """Append the node that cuts a value into pieces of these sizes."""
        inputs = [value, self.constant(sizes)]
        self._nodes.append(self._helper.make_node("Split", inputs, list(outputs), axis=axis))

    def constant(self, value: Tensor | Sequence[int] | float, name: str | None = None) -> str:
        """Add a constant: a tensor, a list of sizes (int64) or a number (float32)."""
        if isinstance(value, Tensor):
            array = value.detach().cpu().contiguous().numpy()
        elif isinstance(value, float):
            array = np.array(value, np.float32)
        else:
            array = np.array(value, np.int64)
        name = self.fresh() if name is None else name
        if self._apart is not None and array.dtype == np.float32 and array.size >= _LARGE:
            self._apart[name] = array
            self._constants.append(self._outside(name, array))
        else:
            self._constants.append(self._numpy_helper.from_array(array, name))
        return name

    def fresh(self) -> str:
        """A name that nothing has."""
        self._fresh += 1
        return f"{self._prefix}{self._fresh}"

    def kind(self, name: str) -> int:
        """The number of a type of values, such as INT64."""
        from onnx import TensorProto

        number: int = TensorProto.DataType.Value(name)
        return number

    def model(self, inputs: Sequence[tuple[str, Dims]], outputs: Sequence[tuple[str, Dims]]) -> Any:
        """The finished model; all blobs are float32."""
        graph = self._helper.make_graph(
            self._nodes,
            self.name,
            self._described(inputs),
            self._described(outputs),
            self._constants,
        )
        return self._helper.make_model(
            graph,
            producer_name="caffe-ssd",
            ir_version=IR_VERSION,
            opset_imports=[self._helper.make_opsetid("", OPSET)],
        )

    def append_to(self, model: Any, outputs: Sequence[tuple[str, Dims]]) -> None:
        """Put the graph behind a finished model, whose values it reads by name.

        Args:
            model: gets the nodes.
            outputs: take the place of the model's own; those of its own names keep their shape.
        """
        graph = model.graph
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._constants)
        known = {each.name: each for each in graph.output}
        chosen = [
            known[name] if name in known else self._described([(name, dims)])[0]
            for name, dims in outputs
        ]
        del graph.output[:]
        graph.output.extend(chosen)

    def _outside(self, name: str, array: NDArray[np.float32]) -> Any:
        """A constant whose values are not in the model."""
        from onnx import TensorProto

        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", OUTSIDE), ("offset", "0"), ("length", str(array.nbytes))):
            tensor.external_data.add(key=key, value=value)
        return tensor

    def _described(self, named: Sequence[tuple[str, Dims]]) -> list[Any]:
        from onnx import TensorProto

        return [
            self._helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in named
        ]


def outside_as_inputs(data: bytes) -> bytes:
    """The model with the constants that are not in it as further inputs, behind its own."""
    from onnx import TensorProto, helper, load_model_from_string

    model = load_model_from_string(data)
    inside = []
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)
        else:
            inside.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(inside)
    changed: bytes = model.SerializeToString()
    return changed
