"""InnerProduct: a fully connected layer over the axes from `axis` on.

Spec: caffe-layers.md section F.

Shapes: K inputs per item, M outputs.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import canonical_axis, learnt_blobs
from caffe_ssd.layers.registry import (
    EVERY_BOTTOM,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


class InnerProduct(Layer):
    """The layer; blob 0 is the weight (M, K), or (K, M) if transposed, blob 1 the bias (M,).

    Args:
        num_output: M.
        num_inputs: K.
        axis: first axis of an item, not negative.
        transpose: whether the weight is stored transposed.
    """

    backward_reads = EVERY_BOTTOM

    def __init__(self, *, num_output: int, num_inputs: int, axis: int, transpose: bool) -> None:
        super().__init__()
        self.num_output = num_output
        self.num_inputs = num_inputs
        self.axis = axis
        self.grouping = Grouping.along(axis)
        self.transpose = transpose

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if len(bottom) <= self.axis or math.prod(bottom[self.axis :]) != self.num_inputs:
            raise ShapeError(
                f"bottom 0 must have {self.num_inputs} elements from axis {self.axis} on, "
                f"got shape {list(bottom)}"
            )
        return ((*bottom[: self.axis], self.num_output),)

    def forward(self, bottom: Tensor) -> Tensor:
        weight = self.blobs[0].t() if self.transpose else self.blobs[0]
        bias = self.blobs[1] if len(self.blobs) > 1 else None
        return F.linear(bottom.flatten(self.axis), weight, bias)


@register_layer("InnerProduct")
def _build(spec: LayerSpec) -> InnerProduct:
    param = spec.param.inner_product_param
    (bottom,) = spec.bottoms
    if param.num_output < 1:
        raise LayerParamError(f"num_output must be positive, got {param.num_output}")
    axis = canonical_axis(param.axis, len(bottom))
    num_inputs = math.prod(bottom[axis:])
    layer = InnerProduct(
        num_output=param.num_output,
        num_inputs=num_inputs,
        axis=axis,
        transpose=param.transpose,
    )
    shape: Shape = (param.num_output, num_inputs)
    blobs = [(shape[::-1] if param.transpose else shape, param.weight_filler)]
    if param.bias_term:
        blobs.append(((param.num_output,), param.bias_filler))
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
