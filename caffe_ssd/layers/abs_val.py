"""AbsVal: the absolute value; its gradient at 0 is 0.

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.common import refuse_in_place
from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer


class AbsVal(Layer):
    """The layer; any shape."""

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom.abs()


@register_layer("AbsVal")
def _build(spec: LayerSpec) -> AbsVal:
    refuse_in_place(spec)
    return AbsVal()
