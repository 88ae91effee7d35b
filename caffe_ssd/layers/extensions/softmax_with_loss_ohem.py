"""SoftmaxWithLossOHEM: SoftmaxWithLoss that also tells the loss of each place, for R-FCN's mining.

Spec: other-forks.md section 10.
Quirk: nothing goes back through the probabilities (top 1) and the losses of places (top 2).

Shapes: scores have K classes on one axis; labels are as many as the other axes have positions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_ssd.layers.common import canonical_axis, forbid_gradient
from caffe_ssd.layers.extensions.ohem_loss import divisor, is_ohem
from caffe_ssd.layers.loss_common import CountingLoss, Mode, read_mode
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer
from caffe_ssd.layers.softmax_with_loss import check_scores, position_losses
from caffe_ssd.proto.caffe_pb2 import LossParameter


class SoftmaxWithLossOHEM(CountingLoss):
    """The layer; tops are the loss, perhaps the probabilities and the loss of each place.

    Args:
        axis: the class axis, not negative.
        mode, fixed: see `divisor`.
        ignore_label: positions with this label count nothing.
        num_tops: 1, 2 or 3.
    """

    def __init__(
        self,
        *,
        axis: int,
        mode: Mode,
        fixed: float = 1.0,
        ignore_label: int | None = None,
        num_tops: int = 1,
    ) -> None:
        super().__init__()
        self.axis = axis
        self.mode = mode
        self.fixed = fixed
        self.ignore_label = ignore_label
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_scores(*bottoms, axis=self.axis)
        return ((), *bottoms)[: self.num_tops]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, ...]:
        losses, valid = position_losses(
            scores, labels, axis=self.axis, ignore_label=self.ignore_label
        )
        count = divisor(
            self.mode,
            self.fixed,
            outer=math.prod(scores.shape[: self.axis]),
            inner=math.prod(scores.shape[self.axis + 1 :]),
            valid=valid,
            peers=self.peers,
        )
        total = forbid_gradient(losses.sum() / count, labels, "labels")
        if self.num_tops == 1:
            return total
        probabilities = torch.softmax(scores.detach(), self.axis)
        return (total, probabilities, losses.detach().reshape(labels.shape))[: self.num_tops]


def _build(spec: LayerSpec) -> SoftmaxWithLossOHEM:
    param = spec.param.loss_param
    layer = SoftmaxWithLossOHEM(
        axis=canonical_axis(spec.param.softmax_param.axis, len(spec.bottoms[0])),
        mode=read_mode(param, LossParameter.VALID, takes_fixed=True),
        fixed=param.pre_fixed_normalizer,
        ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
        num_tops=spec.num_tops,
    )
    layer.top_shapes(*spec.bottoms)
    return layer


register_layer("SoftmaxWithLossOHEM", bottoms=2, tops=range(1, 4), is_loss=True, not_forced=(1,))(
    _build
)
register_layer(
    "SoftmaxWithLoss",
    bottoms=2,
    tops=range(1, 4),
    is_loss=True,
    not_forced=(1,),
    when=is_ohem,
    told_by="further tops, or PRE_FIXED",
)(_build)
