"""How many numbers a net learns or keeps, from its layers' fields alone.

A file of weights has four bytes for each. Published numbers of parameters count BatchNorm's
statistics too.
"""

from typing import Any

COLOURS = 3
IMAGES = ("AnnotatedData", "Input")
# Layers whose top has the channels of their first bottom and that keep nothing.
WEIGHTLESS = ("Pooling", "ReLU", "Sigmoid", "Eltwise", "Permute", "Flatten", "Reshape", "Softmax",
              "PriorBox", "DetectionOutput", "DetectionEvaluate", "Dropout",
              "MultiBoxLoss")  # fmt: skip


def count_floats(net: Any) -> int:
    """Return the size of all blobs of all layers of a net with colour images.

    Fully connected layers must stand on maps of one pixel, as they do behind global pooling.

    Raises:
        ValueError: a layer of another type than detectors have.
    """
    channels = dict.fromkeys(net.input, COLOURS)
    total = 0
    for layer in net.layer:
        widths = [channels.get(name, 0) for name in layer.bottom]
        size, width = _layer(layer, widths)
        total += size
        channels.update(dict.fromkeys(layer.top, width))
    return total


def _layer(layer: Any, widths: "list[int]") -> "tuple[int, int]":
    """Return the floats of a layer and the channels of its top."""
    width = widths[0] if widths else 0
    if layer.type in ("Convolution", "Deconvolution"):
        return _convolution(layer.convolution_param, width)
    if layer.type == "InnerProduct":
        dense = layer.inner_product_param
        return dense.num_output * (width + dense.bias_term), dense.num_output
    if layer.type == "BatchNorm":
        return 2 * width + 1, width
    if layer.type == "Scale":
        # A gate, with a second bottom, has no scale of its own.
        return width * ((len(widths) == 1) + layer.scale_param.bias_term), width
    if layer.type == "Bias":
        return width, width
    if layer.type == "Normalize":
        return (1 if layer.norm_param.channel_shared else width), width
    if layer.type == "Concat":
        return 0, sum(widths)
    if layer.type in IMAGES:
        return 0, COLOURS
    if layer.type in WEIGHTLESS:
        return 0, width
    raise ValueError(f"{layer.name}: cannot count the parameters of a layer of type {layer.type}")


def _convolution(param: Any, width: int) -> "tuple[int, int]":
    if param.HasField("kernel_h"):
        area = param.kernel_h * param.kernel_w
    else:
        sides = param.kernel_size
        area = sides[0] * sides[-1]
    weights = param.num_output * width * area // param.group
    return weights + (param.num_output if param.bias_term else 0), param.num_output
