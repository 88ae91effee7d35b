"""PReLU: x above 0, a learnt slope times x below.

Spec: caffe-layers.md section D.
Quirk: the gradient at 0 is the slope.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import constant, learnt_blobs
from caffe_ssd.layers.registry import (
    EVERY_BOTTOM,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


class PReLU(Layer):
    """The layer; blob 0 holds the slopes: (C,), or () if the channels share one.

    Args:
        channels: C, the size of axis 1.
    """

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        if len(bottom) < 2 or bottom[1] != self.channels:
            raise ShapeError(
                f"bottom 0 must have {self.channels} channels on axis 1, got shape {list(bottom)}"
            )
        return bottoms

    def forward(self, bottom: Tensor) -> Tensor:
        return F.prelu(bottom, self.blobs[0].reshape(-1))


@register_layer("PReLU")
def _build(spec: LayerSpec) -> PReLU:
    param = spec.param.prelu_param
    (bottom,) = spec.bottoms
    if len(bottom) < 2:
        raise ShapeError(f"bottom 0 must have at least 2 axes, got shape {list(bottom)}")
    layer = PReLU(channels=bottom[1])
    shape = () if param.channel_shared else (bottom[1],)
    filler = param.filler if param.HasField("filler") else constant(0.25)
    layer.blobs.extend(learnt_blobs(spec, (shape, filler)))
    return layer
