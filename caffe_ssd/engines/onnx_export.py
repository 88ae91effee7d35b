"""Frozen nets as ONNX models.

The model ends where ONNX ends: DetectionOutput and other layers without equal stay behind.

    head, tail = net.specialised(image).split(is_exportable)
    model = onnx_model(head)                      # bytes
"""

from __future__ import annotations

from torch import nn

import caffe_ssd.engines.onnx_extensions  # noqa: F401  (registers its writers)
from caffe_ssd.engines.frozen_net import Constant, FrozenNet
from caffe_ssd.engines.onnx_graph import OnnxGraph
from caffe_ssd.engines.onnx_layers import Place, writer_of
from caffe_ssd.net.plan import Value


def is_exportable(layer: nn.Module) -> bool:
    """Whether ONNX can say what the module does."""
    return writer_of(layer) is not None


def onnx_model(net: FrozenNet, name: str = "net") -> bytes:
    """Write a net as an ONNX model, weights inside.

    Args:
        net: specialised; every call of it exportable or constant.
        name: of the graph.

    Raises:
        UsageError: the package onnx is not installed.
    """
    graph = OnnxGraph(name)
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
        )
        writer(op.layer, place)
    model = graph.model(
        [(name, net.shapes[value]) for name, value in net.inputs],
        [(name, net.shapes[value]) for name, value in net.outputs],
    )
    data: bytes = model.SerializeToString()
    return data
