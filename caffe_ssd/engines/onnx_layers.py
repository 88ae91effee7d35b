"""How each module of a frozen net is written in ONNX, operator by operator.

`writer_of` says whether there is a way; what has none is run by PyTorch behind the exported part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from caffe_ssd.engines.frozen_layers import (
    ChannelAffine,
    ChannelClamp,
    FrozenConvolution,
    FrozenInnerProduct,
    FrozenMaxPool,
    FrozenNormalize,
)
from caffe_ssd.engines.onnx_graph import OnnxGraph
from caffe_ssd.errors import CaffeError
from caffe_ssd.layers.abs_val import AbsVal
from caffe_ssd.layers.bnll import BNLL
from caffe_ssd.layers.concat import Concat
from caffe_ssd.layers.crop import Crop
from caffe_ssd.layers.eltwise import Eltwise
from caffe_ssd.layers.elu import ELU
from caffe_ssd.layers.exp import Exp
from caffe_ssd.layers.flatten import Flatten
from caffe_ssd.layers.log import Log
from caffe_ssd.layers.lrn import LRN
from caffe_ssd.layers.permute import Permute
from caffe_ssd.layers.pool_window import Window
from caffe_ssd.layers.pooling import Pooling
from caffe_ssd.layers.power import Power
from caffe_ssd.layers.prelu import PReLU
from caffe_ssd.layers.registry import Shape
from caffe_ssd.layers.relu import ReLU
from caffe_ssd.layers.reshape import Reshape
from caffe_ssd.layers.scale import Scale
from caffe_ssd.layers.sigmoid import Sigmoid
from caffe_ssd.layers.slice import Slice
from caffe_ssd.layers.softmax import Softmax
from caffe_ssd.layers.tanh import TanH
from caffe_ssd.proto.caffe_pb2 import EltwiseParameter, PoolingParameter

FreeShape = tuple[int | None, ...]


class FixedSizeError(CaffeError):
    """A layer is written for one size of its bottoms, and shall take any."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a module stands in the graph.

    Args:
        graph: gets the nodes.
        bottoms, tops: names of its blobs.
        bottom_shapes, top_shapes: their shapes.
        bottom_dims, top_dims: the same with None where a size shall be free.
    """

    graph: OnnxGraph
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    bottom_shapes: tuple[Shape, ...]
    top_shapes: tuple[Shape, ...]
    bottom_dims: tuple[FreeShape, ...]
    top_dims: tuple[FreeShape, ...]

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """An inner node."""
        return self.graph.node(op_type, inputs, **attributes)

    def last(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> None:
        """The node that makes the only top."""
        self.graph.node(op_type, inputs, self.tops[0], **attributes)

    def last_with_relu(
        self, relu: bool, op_type: str, inputs: Sequence[str], **attributes: Any
    ) -> None:
        """The same, with a ReLU behind it if there is one."""
        if relu:
            self.last("Relu", [self.node(op_type, inputs, **attributes)])
        else:
            self.last(op_type, inputs, **attributes)

    def per_channel(self, values: Tensor) -> str:
        """A constant (C,) shaped to be spread over bottom 0."""
        return self.graph.constant(values.reshape(-1, *(1,) * (len(self.bottom_shapes[0]) - 2)))

    @property
    def has_free_plane(self) -> bool:
        """Whether the height or width of bottom 0 is free."""
        return None in self.bottom_dims[0][2:]


Writer = Callable[[Any, Place], None]
_WRITERS: dict[type[nn.Module], Writer] = {}


def writer_of(layer: nn.Module) -> Writer | None:
    """What writes a module, or None where ONNX has no equal or none was written."""
    writer = _WRITERS.get(type(layer))
    if isinstance(layer, Pooling):
        return writer if layer.method == PoolingParameter.AVE else None
    if isinstance(layer, LRN):
        return writer if layer.k is not None else None
    return writer


def writes(*types: type[nn.Module]) -> Callable[[Writer], Writer]:
    """Register what writes modules of these types."""

    def register(writer: Writer) -> Writer:
        _WRITERS.update(dict.fromkeys(types, writer))
        return writer

    return register


@writes(FrozenConvolution)
def _convolution(layer: FrozenConvolution, place: Place) -> None:
    geometry = layer.geometry
    constants = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    place.last_with_relu(
        layer.relu,
        "ConvTranspose" if layer.transposed else "Conv",
        [place.bottoms[0], *map(place.graph.constant, constants)],
        kernel_shape=geometry.kernel,
        strides=geometry.stride,
        pads=(*geometry.pad, *geometry.pad_behind),
        dilations=geometry.dilation,
        group=layer.group,
    )


@writes(FrozenInnerProduct)
def _inner_product(layer: FrozenInnerProduct, place: Place) -> None:
    flat = [*[0] * layer.axis, layer.weight.shape[1]]  # 0: as it is
    items = place.node("Reshape", [place.bottoms[0], place.graph.constant(flat)])
    weight = place.graph.constant(layer.weight.t())
    if layer.bias is None:
        place.last_with_relu(layer.relu, "MatMul", [items, weight])
    else:
        product = place.node("MatMul", [items, weight])
        place.last_with_relu(layer.relu, "Add", [product, place.graph.constant(layer.bias)])


@writes(ChannelAffine)
def _affine(layer: ChannelAffine, place: Place) -> None:
    scaled = place.node("Mul", [place.bottoms[0], place.per_channel(layer.scale)])
    place.last_with_relu(layer.relu, "Add", [scaled, place.per_channel(layer.shift)])


@writes(ChannelClamp)
def _clamp(layer: ChannelClamp, place: Place) -> None:
    inputs = [place.bottoms[0], place.per_channel(layer.low)]
    if layer.high is None:
        place.last("Max", inputs)
    else:
        place.last("Min", [place.node("Max", inputs), place.per_channel(layer.high)])


@writes(FrozenNormalize)
def _normalize(layer: FrozenNormalize, place: Place) -> None:
    graph = place.graph
    (bottom,) = place.bottoms
    squares = place.node("Mul", [bottom, bottom])
    total = place.node("ReduceSum", [squares, graph.constant([1])], keepdims=1)
    norm = place.node("Sqrt", [place.node("Add", [total, graph.constant(layer.eps)])])
    scale = place.per_channel(layer.scale) if layer.scale.dim() else graph.constant(layer.scale)
    place.last("Mul", [place.node("Div", [bottom, norm]), scale])


@writes(FrozenMaxPool)
def _max_pool(layer: FrozenMaxPool, place: Place) -> None:
    window = layer.window
    pads = _explicit_pads(window, place)
    rounding: dict[str, int] = {}
    if place.has_free_plane:
        if max(window.stride) > 1 and any(window.pad):
            raise FixedSizeError("runtimes differ in the windows at the far padding")
        pads, rounding = (*window.pad, *window.pad), {"ceil_mode": 1}
    place.last(
        "MaxPool",
        place.bottoms,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=pads,
        **rounding,
    )


def _explicit_pads(window: Window, place: Place) -> tuple[int, ...]:
    """Padding in front and behind, so that no runtime needs to round the number of windows."""
    plane = place.bottom_shapes[0][2:]
    behind = window.far_pad((plane[0], plane[1]))
    return (*window.pad, *(max(pad, 0) for pad in behind))


@writes(Pooling)
def _average_pool(layer: Pooling, place: Place) -> None:
    if layer.window is None:
        place.last("GlobalAveragePool", place.bottoms)
        return
    if place.has_free_plane:
        raise FixedSizeError("each window is divided by its number of cells")
    window, plane = layer.window, place.bottom_shapes[0][2:]
    pooled = place.node(
        "AveragePool",
        place.bottoms,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=_explicit_pads(window, place),
        count_include_pad=1,
    )
    # It divided by whole windows; Caffe's reach to the far padding only.
    cells = torch.ones(1, 1, *plane)
    ours = nn.functional.avg_pool2d(
        nn.functional.pad(cells, _torch_pads(_explicit_pads(window, place))),
        window.kernel,
        window.stride,
    )
    place.last("Mul", [pooled, place.graph.constant(layer(cells) / ours)])


def _torch_pads(pads: Sequence[int]) -> list[int]:
    top, left, bottom, right = pads
    return [left, right, top, bottom]


@writes(ReLU)
def _relu(layer: ReLU, place: Place) -> None:
    if layer.negative_slope == 0:
        place.last("Relu", place.bottoms)
    else:
        place.last("LeakyRelu", place.bottoms, alpha=layer.negative_slope)


@writes(PReLU)
def _prelu(layer: PReLU, place: Place) -> None:
    slopes = layer.blobs[0].detach().reshape(-1)
    place.last("PRelu", [*place.bottoms, place.per_channel(slopes)])


@writes(Sigmoid, TanH, AbsVal, BNLL)
def _unary(layer: nn.Module, place: Place) -> None:
    names: dict[type[nn.Module], str] = {
        Sigmoid: "Sigmoid",
        TanH: "Tanh",
        AbsVal: "Abs",
        BNLL: "Softplus",
    }
    place.last(names[type(layer)], place.bottoms)


@writes(ELU)
def _elu(layer: ELU, place: Place) -> None:
    place.last("Elu", place.bottoms, alpha=layer.alpha)


@writes(Exp)
def _exp(layer: Exp, place: Place) -> None:
    exponent = place.node("Mul", [place.bottoms[0], place.graph.constant(float(layer.inner))])
    powers = place.node("Exp", [exponent])
    place.last("Mul", [powers, place.graph.constant(float(layer.outer))])


@writes(Log)
def _log(layer: Log, place: Place) -> None:
    scaled = place.node("Mul", [place.bottoms[0], place.graph.constant(float(layer.scale))])
    argument = place.node("Add", [scaled, place.graph.constant(float(layer.shift))])
    logarithm = place.node("Log", [argument])
    place.last("Div", [logarithm, place.graph.constant(float(layer.log_base))])


@writes(Power)
def _power(layer: Power, place: Place) -> None:
    scaled = place.node("Mul", [place.bottoms[0], place.graph.constant(float(layer.scale))])
    base = place.node("Add", [scaled, place.graph.constant(float(layer.shift))])
    place.last("Pow", [base, place.graph.constant(float(layer.power))])


@writes(Scale)
def _scale(layer: Scale, place: Place) -> None:
    rank = len(place.bottom_shapes[0])
    behind = (1,) * (rank - layer.axis - len(layer.shape))
    blobs = [blob.detach().reshape(*layer.shape, *behind) for blob in layer.blobs]
    if layer.learnt:
        factor = place.graph.constant(blobs.pop(0))
    else:
        shape = place.graph.constant([*layer.shape, *behind])
        factor = place.node("Reshape", [place.bottoms[1], shape])
    if blobs:
        product = place.node("Mul", [place.bottoms[0], factor])
        place.last("Add", [product, place.graph.constant(blobs[0])])
    else:
        place.last("Mul", [place.bottoms[0], factor])


@writes(Eltwise)
def _eltwise(layer: Eltwise, place: Place) -> None:
    if layer.operation == EltwiseParameter.MAX:
        place.last("Max", place.bottoms)
        return
    terms = list(place.bottoms)
    if layer.operation == EltwiseParameter.SUM:
        terms = [
            name if coeff == 1 else place.node("Mul", [name, place.graph.constant(float(coeff))])
            for name, coeff in zip(terms, layer.coeffs, strict=True)
        ]
    op_type = "Add" if layer.operation == EltwiseParameter.SUM else "Mul"
    total = terms[0]
    for term in terms[1:-1]:
        total = place.node(op_type, [total, term])
    place.last(op_type, [total, terms[-1]])


@writes(Concat)
def _concat(layer: Concat, place: Place) -> None:
    place.last("Concat", place.bottoms, axis=layer.axis)


@writes(Slice)
def _slice(layer: Slice, place: Place) -> None:
    sizes = [shape[layer.axis] for shape in place.top_shapes]
    if any(dims[layer.axis] is None for dims in place.top_dims):
        raise FixedSizeError("it cuts to sizes that are given")
    place.graph.split(place.bottoms[0], sizes, place.tops, axis=layer.axis)


@writes(Crop)
def _crop(layer: Crop, place: Place) -> None:
    axes = list(range(layer.axis, len(place.top_shapes[0])))
    if None in place.top_dims[0][layer.axis :]:
        raise FixedSizeError("it cuts to a size that is given")
    starts = list(layer.offsets)
    ends = [start + place.top_shapes[0][axis] for start, axis in zip(starts, axes, strict=True)]
    window = [place.graph.constant(numbers) for numbers in (starts, ends, axes)]
    place.last("Slice", [place.bottoms[0], *window])


@writes(Flatten, Reshape)
def _reshape(layer: nn.Module, place: Place) -> None:
    (bottom,), (top,) = place.bottom_dims[:1], place.top_dims
    before, after = place.bottom_shapes[0], place.top_shapes[0]
    copied = [
        size is None and bottom[i : i + 1] == (None,) and before[i] == after[i]
        for i, size in enumerate(top)
    ]
    if top.count(None) - sum(copied) > 1:
        raise FixedSizeError("several sizes of its top are free")
    left = [-1 if size is None else size for size in top]
    shape = [0 if same else size for same, size in zip(copied, left, strict=True)]
    place.last("Reshape", [place.bottoms[0], place.graph.constant(shape)])


@writes(Permute)
def _permute(layer: Permute, place: Place) -> None:
    place.last("Transpose", place.bottoms, perm=layer.order)


@writes(Softmax)
def _softmax(layer: Softmax, place: Place) -> None:
    place.last("Softmax", place.bottoms, axis=layer.axis)


@writes(LRN)
def _lrn(layer: LRN, place: Place) -> None:
    place.last(
        "LRN", place.bottoms, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k
    )
