"""A layer in a few words: `conv 3×3 /2, 64`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.caffe_pb2 import (
    ConvolutionParameter,
    EltwiseParameter,
    LayerParameter,
    PoolingParameter,
)

_SHORT_NAMES = {
    "BatchNorm": "BN",
    "Concat": "concat",
    "Dropout": "dropout",
    "Input": "input",
    "Normalize": "L2 norm",
    "Scale": "scale",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
}


def describe(layer: LayerParameter) -> str:
    """What a layer does, without its name."""
    special = _SPECIAL.get(layer.type)
    return _SHORT_NAMES.get(layer.type, layer.type) if special is None else special(layer)


def sides(values: Sequence[int], height: int, width: int, default: int) -> list[int]:
    """The numbers of a kernel, stride or pad, which a message may give in two ways.

    Args:
        values: of the repeated field; one stands for all axes.
        height, width: of the fields `_h` and `_w`; 0 where they are not set.
        default: where nothing is.
    """
    if height or width:
        return [height, width]
    return [*values] or [default]


def shape_text(shape: Shape) -> str:
    """(1, 64, 75, 75) as `64×75×75`: the batch is left out where it is one image."""
    numbers = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "×".join(map(str, numbers)) if numbers else "scalar"


def _window(numbers: Sequence[int]) -> str:
    return "×".join(map(str, numbers if len(numbers) > 1 else [*numbers] * 2))


def _stride(numbers: Sequence[int]) -> str:
    if all(number == 1 for number in numbers):
        return ""
    same = len(set(numbers)) == 1
    return f" /{numbers[0]}" if same else f" /{'×'.join(map(str, numbers))}"


def _convolution(layer: LayerParameter) -> str:
    conv: ConvolutionParameter = layer.convolution_param
    kernel = _window(sides(conv.kernel_size, conv.kernel_h, conv.kernel_w, 1))
    stride = _stride(sides(conv.stride, conv.stride_h, conv.stride_w, 1))
    word = "conv" if layer.type == "Convolution" else "deconv"
    parts = [f"{word} {kernel}{stride}, {conv.num_output}"]
    if any(number != 1 for number in conv.dilation):
        parts.append(f"dilated {_window(conv.dilation)}")
    if conv.group > 1:
        parts.append("depthwise" if conv.group == conv.num_output else f"group {conv.group}")
    return ", ".join(parts)


def _depthwise(layer: LayerParameter) -> str:
    conv: ConvolutionParameter = layer.convolution_param
    kernel = _window(sides(conv.kernel_size, conv.kernel_h, conv.kernel_w, 1))
    stride = _stride(sides(conv.stride, conv.stride_h, conv.stride_w, 1))
    outputs = f", {conv.num_output}" if conv.num_output else ""
    return f"conv {kernel}{stride}{outputs}, depthwise"


def _pooling(layer: LayerParameter) -> str:
    pool = layer.pooling_param
    word = {"AVE": "average", "STOCHASTIC": "stochastic"}.get(
        PoolingParameter.PoolMethod.Name(pool.pool), "max"
    )
    if pool.global_pooling:
        return f"global {word} pool"
    kernel = _window(sides([pool.kernel_size], pool.kernel_h, pool.kernel_w, 1))
    return f"{word} pool {kernel}{_stride(sides([pool.stride], pool.stride_h, pool.stride_w, 1))}"


def _eltwise(layer: LayerParameter) -> str:
    words = {"PROD": "product", "SUM": "sum", "MAX": "maximum"}
    return words[EltwiseParameter.EltwiseOp.Name(layer.eltwise_param.operation)]


def _scale(layer: LayerParameter) -> str:
    return "product" if len(layer.bottom) > 1 else "scale"


_SPECIAL: dict[str, Callable[[LayerParameter], str]] = {
    "Convolution": _convolution,
    "Deconvolution": _convolution,
    "DepthwiseConvolution": _depthwise,
    "ConvolutionDepthwise": _depthwise,
    "Eltwise": _eltwise,
    "InnerProduct": lambda layer: f"fc {layer.inner_product_param.num_output}",
    "Pooling": _pooling,
    "Scale": _scale,
}
