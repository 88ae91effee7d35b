"""SmoothL1LossOHEM: SmoothL1Loss that also tells the loss of each place, for R-FCN's mining.

Spec: other-forks.md section 10.
Quirk: nothing goes back through the second top.

Shapes: bottoms are (N, C, H, W), the second top (N, 1, H, W).
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.common import check_rank, check_same_shapes
from caffe_ssd.layers.extensions.ohem_loss import divisor, is_ohem
from caffe_ssd.layers.extensions.sigma_smooth_l1_loss import smooth_l1
from caffe_ssd.layers.loss_common import Mode, read_mode
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import LossParameter


class SmoothL1LossOHEM(Layer):
    """The layer; bottoms are prediction and target, perhaps weights of their difference.

    Args:
        mode, fixed: see `divisor`.
        num_tops: 2 adds the sum over the channels of each place.
    """

    def __init__(self, *, mode: Mode, fixed: float = 1.0, num_tops: int = 1) -> None:
        super().__init__()
        self.mode = mode
        self.fixed = fixed
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_rank(bottoms[0], 4)
        check_same_shapes(bottoms)
        images, _, height, width = bottoms[0]
        return ((), (images, 1, height, width))[: self.num_tops]

    def forward(
        self, prediction: Tensor, target: Tensor, *weights: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        difference = prediction - target
        for weight in weights:
            difference = weight.detach() * difference
        places = smooth_l1(difference).sum(1, keepdim=True)
        images, _, height, width = places.shape
        total = places.sum() / divisor(self.mode, self.fixed, outer=images, inner=height * width)
        return total if self.num_tops == 1 else (total, places.detach())


def _build(spec: LayerSpec) -> SmoothL1LossOHEM:
    param = spec.param.loss_param
    layer = SmoothL1LossOHEM(
        mode=read_mode(param, LossParameter.VALID, takes_fixed=True),
        fixed=param.pre_fixed_normalizer,
        num_tops=spec.num_tops,
    )
    layer.top_shapes(*spec.bottoms)
    return layer


register_layer("SmoothL1LossOHEM", bottoms=range(2, 4), tops=range(1, 3), is_loss=True)(_build)
register_layer(
    "SmoothL1Loss",
    bottoms=range(2, 4),
    tops=range(1, 3),
    is_loss=True,
    when=is_ohem,
    told_by="a second top, or PRE_FIXED",
)(_build)
