"""How layers of other forks are written in ONNX; see `onnx_layers`.

Of the types that nets use at inference only region pooling and the outputs of YOLO have no equal.
"""

from __future__ import annotations

from caffe_ssd.engines.onnx_layers import Place, writes
from caffe_ssd.layers.extensions.axpy import Axpy
from caffe_ssd.layers.extensions.hard_swish import HardSwish
from caffe_ssd.layers.extensions.interp import Interp, interpolation_places
from caffe_ssd.layers.extensions.mask_pooling import MaskPooling
from caffe_ssd.layers.extensions.plain_normalize import LEAST, PlainNormalize
from caffe_ssd.layers.extensions.relu6 import LIMIT, ReLU6
from caffe_ssd.layers.extensions.reorg import Reorg
from caffe_ssd.layers.extensions.shuffle_channel import ShuffleChannel
from caffe_ssd.layers.extensions.squeeze import Squeeze
from caffe_ssd.layers.extensions.swish import Swish
from caffe_ssd.layers.extensions.upsample import Upsample

AS_IT_IS = 0
"""A size in a Reshape that the value has already."""


def _any_batch(place: Place) -> list[int]:
    """The top's shape for any number of images."""
    return [AS_IT_IS, *place.top_shapes[0][1:]]


@writes(ReLU6)
def _relu6(layer: ReLU6, place: Place) -> None:
    graph = place.graph
    (bottom,) = place.bottoms
    low: float = 0.0
    if layer.negative_slope != 0:
        bottom = place.node("LeakyRelu", [bottom], alpha=layer.negative_slope)
        low = float("-inf")
    place.last("Clip", [bottom, graph.constant(low), graph.constant(LIMIT)])


@writes(Swish)
def _swish(layer: Swish, place: Place) -> None:
    (bottom,) = place.bottoms
    scaled = place.node("Mul", [bottom, place.graph.constant(float(layer.beta))])
    place.last("Mul", [bottom, place.node("Sigmoid", [scaled])])


@writes(HardSwish)
def _hard_swish(layer: HardSwish, place: Place) -> None:
    graph = place.graph
    (bottom,) = place.bottoms
    shifted = place.node("Add", [bottom, graph.constant(3.0)])
    gate = place.node("Clip", [shifted, graph.constant(0.0), graph.constant(6.0)])
    place.last("Div", [place.node("Mul", [bottom, gate]), graph.constant(6.0)])


@writes(ShuffleChannel)
def _shuffle_channel(layer: ShuffleChannel, place: Place) -> None:
    graph = place.graph
    _, channels, height, width = place.bottom_shapes[0]
    grouped = [AS_IT_IS, layer.group, channels // layer.group, height, width]
    cut = place.node("Reshape", [place.bottoms[0], graph.constant(grouped)])
    shuffled = place.node("Transpose", [cut], perm=(0, 2, 1, 3, 4))
    place.last("Reshape", [shuffled, graph.constant(_any_batch(place))])


@writes(Upsample)
def _upsample(layer: Upsample, place: Place) -> None:
    graph = place.graph
    _, channels, height, width = place.bottom_shapes[0]
    spread = place.node(
        "Reshape", [place.bottoms[0], graph.constant([AS_IT_IS, channels, height, 1, width, 1])]
    )
    wanted = [1, 1, 1, layer.scale, 1, layer.scale]  # 1: as it is
    repeated = place.node("Expand", [spread, graph.constant(wanted)])
    place.last("Reshape", [repeated, graph.constant(_any_batch(place))])


@writes(Interp)
def _interp(layer: Interp, place: Place) -> None:
    """Two cells of each axis, weighted as the layer does; Resize rounds places in its own way."""
    graph = place.graph
    value, begin = place.bottoms[0], layer.crop[0]
    for axis in (2, 3):
        length = place.bottom_shapes[0][axis] - sum(layer.crop)
        low, high, share = interpolation_places(length, place.top_shapes[0][axis])
        weight = share.reshape(-1, *(1,) * (3 - axis))
        near, far = (
            place.node("Gather", [value, graph.constant(cells + begin)], axis=axis)
            for cells in (low, high)
        )
        near = place.node("Mul", [near, graph.constant(1 - weight)])
        far = place.node("Mul", [far, graph.constant(weight)])
        value = place.node("Add", [near, far])
    place.last("Identity", [value])


@writes(Axpy)
def _axpy(layer: Axpy, place: Place) -> None:
    rank = len(place.bottom_shapes[1])
    shape = [AS_IT_IS, AS_IT_IS, *(1,) * (rank - 2)]
    factor = place.node("Reshape", [place.bottoms[0], place.graph.constant(shape)])
    place.last("Add", [place.node("Mul", [factor, place.bottoms[1]]), place.bottoms[2]])


@writes(MaskPooling)
def _mask_pooling(layer: MaskPooling, place: Place) -> None:
    place.last("Mul", place.bottoms)


@writes(Squeeze)
def _squeeze(layer: Squeeze, place: Place) -> None:
    place.last("Reshape", [place.bottoms[0], place.graph.constant(place.top_shapes[0])])


@writes(Reorg)
def _reorg(layer: Reorg, place: Place) -> None:
    graph, stride = place.graph, layer.stride
    _, channels, height, width = place.bottom_shapes[0]
    inner = channels // stride**2
    if layer.reverse:
        parts, order = (AS_IT_IS, stride, stride, inner, height, width), (0, 3, 4, 1, 5, 2)
    else:
        parts, order = (AS_IT_IS, inner, height, stride, width, stride), (0, 3, 5, 1, 2, 4)
    cut = place.node("Reshape", [place.bottoms[0], graph.constant(parts)])
    moved = place.node("Transpose", [cut], perm=order)
    place.last("Reshape", [moved, graph.constant(_any_batch(place))])


@writes(PlainNormalize)
def _plain_normalize(layer: PlainNormalize, place: Place) -> None:
    graph = place.graph
    (bottom,) = place.bottoms
    parts = place.node("Abs", [bottom]) if layer.absolute else place.node("Mul", [bottom, bottom])
    total = place.node("ReduceSum", [parts, graph.constant([1])], keepdims=1)
    norm = place.node("Add", [total, graph.constant(LEAST)])
    norm = norm if layer.absolute else place.node("Sqrt", [norm])
    if layer.num_tops == 2:
        graph.node("Identity", [norm], place.tops[1])
    place.last("Div", [bottom, norm])
