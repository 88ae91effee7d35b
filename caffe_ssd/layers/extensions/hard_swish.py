"""HardSwish: y = x * min(max(x + 3, 0), 6) / 6.

Spec: other-forks.md section 8. In nets that Synopsys converted from TensorFlow.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, register_layer


class HardSwish(Layer):
    """The layer; any shape, no settings."""

    grouping = Grouping.PER_IMAGE

    def forward(self, bottom: Tensor) -> Tensor:
        return bottom * (bottom + 3).clamp(0, 6) / 6


@register_layer("HardSwish")
def _build(spec: LayerSpec) -> HardSwish:
    return HardSwish()
