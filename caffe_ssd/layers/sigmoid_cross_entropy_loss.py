"""SigmoidCrossEntropyLoss: binary cross-entropy of logits against targets in [0, 1].

Spec: caffe-layers.md section G.
Quirk: the loss is divided by the batch size unless told otherwise, not by the valid positions.
Quirk: a target is ignored if it equals ignore_label once cut toward zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.loss_common import CountingLoss, Mode, check_batch, normalizer, read_mode
from caffe_ssd.layers.peers import Peers
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import LossParameter


def sigmoid_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    mode: Mode,
    ignore_label: int | None = None,
    peers: Peers | None = None,
) -> Tensor:
    """The normalised cross-entropy, a scalar.

    Args:
        logits: (N, ...).
        targets: as many; no gradient.
        mode: see `loss_common.normalizer`.
        ignore_label: see the module.
        peers: see `loss_common.share_of_count`.
    """
    targets = targets.detach().reshape(logits.shape)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    valid = None
    if ignore_label is not None:
        valid = targets.to(torch.int64) != ignore_label
        loss = torch.where(valid, loss, 0)
    outer = logits.shape[0]
    inner = math.prod(logits.shape[1:])
    return loss.sum() / normalizer(mode, outer=outer, inner=inner, valid=valid, peers=peers)


class SigmoidCrossEntropyLoss(CountingLoss):
    """The layer.

    Args:
        mode, ignore_label: see `sigmoid_loss`.
    """

    backward_reads = range(1, 2)  # scores are kept from forward, labels are not

    def __init__(self, *, mode: Mode, ignore_label: int | None = None) -> None:
        super().__init__()
        self.mode = mode
        self.ignore_label = ignore_label

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            raise ShapeError(
                f"bottoms 0 and 1 must have the same count, "
                f"got {list(bottoms[0])} and {list(bottoms[1])}"
            )
        return ((),)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        loss = sigmoid_loss(
            logits, targets, mode=self.mode, ignore_label=self.ignore_label, peers=self.peers
        )
        return forbid_gradient(loss, targets, "targets")


@register_layer("SigmoidCrossEntropyLoss", bottoms=2, is_loss=True, not_forced=(1,))
def _build(spec: LayerSpec) -> SigmoidCrossEntropyLoss:
    param = spec.param.loss_param
    layer = SigmoidCrossEntropyLoss(
        mode=read_mode(param, LossParameter.BATCH_SIZE),
        ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
