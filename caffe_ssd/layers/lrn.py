"""LRN: divide by a power of the mean square of the neighbours, in channels or in space.

Spec: caffe-layers.md section C.
Quirk: WITHIN_CHANNEL ignores k, 1 takes its place.
Quirk: the mean divides by the full neighbourhood, also at the border.

Shapes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import LRNParameter


def normalize_within_channel(x: Tensor, *, size: int, alpha: float, beta: float) -> Tensor:
    """x * (1 + alpha * mean square of the size x size cells around) ^ -beta."""
    mean = F.avg_pool2d(x.square(), size, 1, (size - 1) // 2)
    return x * (1 + alpha * mean).pow(-beta)


class LRN(Layer):
    """The layer.

    Args:
        size: side of the neighbourhood, odd.
        alpha, beta: weight and exponent of the mean square.
        k: what it is added to; None to work within channels rather than across.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, size: int, alpha: float, beta: float, k: float | None) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_rank(bottoms[0], 4)
        return bottoms

    def forward(self, bottom: Tensor) -> Tensor:
        if self.k is None:
            return normalize_within_channel(
                bottom, size=self.size, alpha=self.alpha, beta=self.beta
            )
        return F.local_response_norm(bottom, self.size, self.alpha, self.beta, self.k)


@register_layer("LRN")
def _build(spec: LayerSpec) -> LRN:
    param = spec.param.lrn_param
    if param.local_size % 2 == 0:
        raise LayerParamError(f"local_size must be odd, got {param.local_size}")
    across = param.norm_region == LRNParameter.ACROSS_CHANNELS
    layer = LRN(
        size=param.local_size,
        alpha=param.alpha,
        beta=param.beta,
        k=param.k if across else None,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
