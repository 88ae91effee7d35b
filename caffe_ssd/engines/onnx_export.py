"""Frozen nets as ONNX models.

The model ends where ONNX ends: DetectionOutput and other layers without equal stay behind.

    head, tail = net.specialised(image).split(is_exportable)
    model = onnx_model(head)                      # bytes
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

import caffe_ssd.engines.onnx_extensions  # noqa: F401  (registers its writers)
from caffe_ssd.engines.frozen_net import Constant, FrozenNet
from caffe_ssd.engines.onnx_graph import Dims, OnnxGraph, Weights
from caffe_ssd.engines.onnx_layers import FreeShape, Place, writer_of
from caffe_ssd.net.plan import Value


def is_exportable(layer: nn.Module) -> bool:
    """Whether ONNX can say what the module does."""
    return writer_of(layer) is not None


def onnx_model(
    net: FrozenNet,
    name: str = "net",
    free: Mapping[Value, FreeShape] | None = None,
    apart: Weights | None = None,
) -> bytes:
    """Write a net as an ONNX model.

    Args:
        net: specialised; every call of it exportable or constant.
        name: of the graph.
        free: shapes of all values with None where a size shall be free; None: all are as they are.
        apart: gets the large weights, see `OnnxGraph`; None: they are inside.

    Raises:
        UsageError: the package onnx is not installed.
        FixedSizeError: a call cannot be written for free sizes.
    """
    graph = OnnxGraph(name, apart=apart)
    dims: Mapping[Value, FreeShape] = net.shapes if free is None else free
    names = {value: name for name, value in net.inputs}
    names.update((value, name) for name, value in net.outputs)

    def name_of(value: Value) -> str:
        return names.setdefault(value, f"{value.blob}.{value.version}")

    for op in net.program:
        if isinstance(op.layer, Constant):
            for value, top in zip(op.tops, op.layer(), strict=True):
                if value in net.wanted:  # a graph's output is made by a node
                    graph.node("Identity", [graph.constant(top)], name_of(value))
                else:
                    graph.constant(top, name_of(value))
            continue
        writer = writer_of(op.layer)
        assert writer is not None, f"{op.step.param.name} was not checked with is_exportable"
        place = Place(
            graph=graph,
            bottoms=tuple(map(name_of, op.bottoms)),
            tops=tuple(map(name_of, op.tops)),
            bottom_shapes=tuple(net.shapes[value] for value in op.bottoms),
            top_shapes=tuple(net.shapes[value] for value in op.tops),
            bottom_dims=tuple(dims[value] for value in op.bottoms),
            top_dims=tuple(dims[value] for value in op.tops),
        )
        writer(op.layer, place)
    model = graph.model(
        [(name, _named(dims[value])) for name, value in net.inputs],
        [(name, dims[value]) for name, value in net.outputs],
    )
    data: bytes = model.SerializeToString()
    return data


def _named(shape: FreeShape) -> Dims:
    """The shape of an image blob, with names for the sizes that callers choose."""
    names = ("batch", "channels", "height", "width")
    return tuple(names[i] if size is None else size for i, size in enumerate(shape))
