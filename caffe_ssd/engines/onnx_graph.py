"""Builds an ONNX model node by node; knows nothing of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import UsageError

# Opset 13 has every operator used here and is read by every runtime of the last years.
OPSET = 13
IR_VERSION = 8


Dims = tuple[int | str | None, ...]
"""A shape in a file: numbers, names of sizes that callers choose, None for what follows."""


class OnnxGraph:
    """A graph under construction.

    Args:
        name: of the graph.
        prefix: of the names of inner values.

    Raises:
        UsageError: the package onnx is not installed.
    """

    def __init__(self, name: str, prefix: str = "inner") -> None:
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

    def _described(self, named: Sequence[tuple[str, Dims]]) -> list[Any]:
        from onnx import TensorProto

        return [
            self._helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))
            for name, dims in named
        ]
