"""ELU: x above 0, alpha * (exp(x) - 1) below.

Spec: caffe-layers.md section D.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.registry import EVERY_BOTTOM, Grouping, Layer, LayerSpec, register_layer


class ELU(Layer):
    """The layer; any shape.

    Args:
        alpha: minus the limit far below 0.
    """

    grouping = Grouping.PER_IMAGE
    backward_reads = EVERY_BOTTOM

    def __init__(self, *, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, bottom: Tensor) -> Tensor:
        return F.elu(bottom, self.alpha)


@register_layer("ELU")
def _build(spec: LayerSpec) -> ELU:
    return ELU(alpha=spec.param.elu_param.alpha)
