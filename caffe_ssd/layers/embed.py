"""Embed: replace each index by a learnt row.

Spec: caffe-layers.md section F.

Shapes: K indices, M outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerError, LayerParamError
from caffe_ssd.layers.common import forbid_gradient, learnt_blobs
from caffe_ssd.layers.registry import EVERY_BOTTOM, Layer, LayerSpec, Shape, register_layer


class Embed(Layer):
    """The layer; blob 0 is the weight (K, M), blob 1 the bias (M,) if there is one.

    Args:
        num_output: M.
        input_dim: K; indices are 0..K-1, floats cut toward zero.
    """

    backward_reads = EVERY_BOTTOM

    def __init__(self, *, num_output: int, input_dim: int) -> None:
        super().__init__()
        self.num_output = num_output
        self.input_dim = input_dim

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ((*bottoms[0], self.num_output),)

    def forward(self, bottom: Tensor) -> Tensor:
        index = bottom.detach().to(torch.int64)
        wrong = (index < 0) | (index >= self.input_dim)
        if not index.is_cuda and bool(wrong.any()):
            raise LayerError(
                f"indices must lie in 0..{self.input_dim - 1}, got {int(index[wrong][0])}"
            )
        top = F.embedding(index, self.blobs[0])
        if len(self.blobs) > 1:
            top = top + self.blobs[1]
        return forbid_gradient(top, bottom, "indices")


@register_layer("Embed")
def _build(spec: LayerSpec) -> Embed:
    param = spec.param.embed_param
    for name in ("num_output", "input_dim"):
        if getattr(param, name) < 1:
            raise LayerParamError(f"{name} must be positive, got {getattr(param, name)}")
    shape: Shape = (param.input_dim, param.num_output)
    blobs = [(shape, param.weight_filler)]
    if param.bias_term:
        blobs.append(((param.num_output,), param.bias_filler))
    layer = Embed(num_output=param.num_output, input_dim=param.input_dim)
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
