"""Threshold: 1 above the threshold, else 0; without gradient.

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class Threshold(Layer):
    """The layer; any shape.

    Args:
        threshold: the largest value that gives 0.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, threshold: float = 0.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, bottom: Tensor) -> Tensor:
        return (bottom > self.threshold).to(bottom.dtype)


@register_layer("Threshold", has_backward=False)
def _build(spec: LayerSpec) -> Threshold:
    return Threshold(threshold=spec.param.threshold_param.threshold)
