"""SoftmaxWithLoss: cross-entropy of softmax scores against labels.

Spec: caffe-layers.md section G.
Quirk: in the loss, not in the gradient, a probability counts as at least the smallest normal
float32.
Quirk: labels are floats, cut toward zero.
Quirk: the second top the reference declares, the probabilities, cannot be used there or here.

Shapes: scores have K classes on one axis; labels are as many as the other axes have positions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.layers.common import canonical_axis, forbid_gradient
from caffe_ssd.layers.loss_common import (
    CountingLoss,
    Mode,
    check_batch,
    check_label_count,
    class_labels,
    normalizer,
    read_mode,
)
from caffe_ssd.layers.peers import Peers
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import LossParameter

LARGEST_LOSS = -math.log(torch.finfo(torch.float32).tiny)


class _Capped(torch.autograd.Function):
    """Cap the values but not the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(max=LARGEST_LOSS)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    axis: int,
    mode: Mode,
    ignore_label: int | None = None,
    peers: Peers | None = None,
) -> Tensor:
    """The normalised cross-entropy, a scalar.

    Args:
        scores: K classes on `axis`.
        labels: floating point, see the module.
        axis: the class axis, not negative.
        mode: see `loss_common.normalizer`.
        ignore_label: positions with this label count nothing.
        peers: see `loss_common.share_of_count`.
    """
    loss, valid = position_losses(scores, labels, axis=axis, ignore_label=ignore_label)
    outer, inner = math.prod(scores.shape[:axis]), math.prod(scores.shape[axis + 1 :])
    return loss.sum() / normalizer(mode, outer=outer, inner=inner, valid=valid, peers=peers)


def position_losses(
    scores: Tensor, labels: Tensor, *, axis: int, ignore_label: int | None
) -> tuple[Tensor, Tensor | None]:
    """The cross-entropy of each position, and which of them count; see `softmax_loss`.

    Returns:
        Shaped like the scores with 1 on the class axis; the second None where all count.
    """
    shape = tuple(scores.shape)
    index, valid = class_labels(
        labels, (*shape[:axis], 1, *shape[axis + 1 :]), shape[axis], ignore_label
    )
    loss: Tensor = -torch.log_softmax(scores, axis).gather(axis, index)
    loss = _Capped.apply(loss)  # type: ignore[no-untyped-call]
    return (loss if valid is None else torch.where(valid, loss, 0)), valid


def check_scores(scores: Shape, labels: Shape, *, axis: int) -> None:
    """Check that there is one label per position of the scores.

    Raises:
        ShapeError: there is not.
    """
    check_batch((scores, labels))
    check_label_count(scores, labels, axis=axis)


class SoftmaxWithLoss(CountingLoss):
    """The layer.

    Args:
        axis, mode, ignore_label: see `softmax_loss`.
    """

    backward_reads = range(1, 2)  # scores are kept from forward, labels are not

    def __init__(self, *, axis: int, mode: Mode, ignore_label: int | None = None) -> None:
        super().__init__()
        self.axis = axis
        self.mode = mode
        self.ignore_label = ignore_label

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_scores(*bottoms, axis=self.axis)
        return ((),)

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        loss = softmax_loss(
            scores,
            labels,
            axis=self.axis,
            mode=self.mode,
            ignore_label=self.ignore_label,
            peers=self.peers,
        )
        return forbid_gradient(loss, labels, "labels")


@register_layer("SoftmaxWithLoss", bottoms=2, is_loss=True, not_forced=(1,))
def _build(spec: LayerSpec) -> SoftmaxWithLoss:
    param = spec.param.loss_param
    layer = SoftmaxWithLoss(
        axis=canonical_axis(spec.param.softmax_param.axis, len(spec.bottoms[0])),
        mode=read_mode(param, LossParameter.VALID),
        ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
