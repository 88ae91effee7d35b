"""What R-FCN's losses for online hard example mining (OHEM) share.

Spec: other-forks.md section 10. daijifeng's own fork calls them SmoothL1Loss and SoftmaxWithLoss:
there the extra tops, or the normalisation PRE_FIXED, tell them.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.loss_common import Mode, normalizer
from caffe_ssd.layers.peers import Peers
from caffe_ssd.proto.caffe_pb2 import LayerParameter, LossParameter


def is_ohem(param: LayerParameter) -> bool:
    """Whether a loss of an original name is one of these."""
    return len(param.top) > 1 or param.loss_param.normalization == LossParameter.PRE_FIXED


def divisor(
    mode: Mode,
    fixed: float,
    *,
    outer: int,
    inner: int,
    valid: Tensor | None = None,
    peers: Peers | None = None,
) -> Tensor | float:
    """What the summed loss is divided by, at least 1.

    Args:
        mode: see `normalizer`; PRE_FIXED for a number of one's own.
        fixed: that number.
        outer, inner, valid, peers: see `normalizer`.
    """
    if mode == LossParameter.PRE_FIXED:
        return max(fixed, 1.0)
    return normalizer(mode, outer=outer, inner=inner, valid=valid, peers=peers)
