"""What the loss layers share: normalisation, labels, checks.

Spec: caffe-layers.md section G.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.peers import Peers, in_step
from caffe_ssd.layers.registry import Layer, Shape
from caffe_ssd.proto.caffe_pb2 import LossParameter

Mode = LossParameter.NormalizationMode

# What MultinomialLogisticLoss and InfogainLoss take the logarithm of at least.
SMALLEST_PROBABILITY = 1e-20


def read_mode(param: LossParameter, default: Mode, *, takes_fixed: bool = False) -> Mode:
    """The normalisation: `normalization`, else the older `normalize`, else the default.

    Args:
        param: the settings.
        default: without any.
        takes_fixed: whether PRE_FIXED and its number mean anything to the layer.

    Raises:
        LayerParamError: they are given and do not.
    """
    fixed = param.normalization == LossParameter.PRE_FIXED or param.HasField("pre_fixed_normalizer")
    if fixed and not takes_fixed:
        raise LayerParamError(
            "normalization: PRE_FIXED and pre_fixed_normalizer are for SmoothL1LossOHEM and "
            "SoftmaxWithLossOHEM"
        )
    if param.HasField("normalization"):
        return param.normalization
    if param.HasField("normalize"):
        return LossParameter.VALID if param.normalize else LossParameter.BATCH_SIZE
    return default


class CountingLoss(Layer):
    """A loss that may be divided by how many positions count, which differs from batch to batch.

    Attributes:
        peers: devices that count together while all are in step; None: this one counts alone.
    """

    peers: Peers | None = None


def share_of_count(count: Tensor, peers: Peers | None) -> Tensor:
    """What a device divides its summed loss by: the count, at least 1.

    With peers it is the mean of their counts: as the devices' gradients are averaged, all of them
    together are then divided by the count of all, as one device with the whole batch would.

    Args:
        count: a scalar.
        peers: of a `CountingLoss`.
    """
    peers = in_step(peers)
    if peers is None:
        return count.clamp(min=1)
    return peers.total(count).clamp(min=1) / peers.count


def normalizer(
    mode: Mode, *, outer: int, inner: int, valid: Tensor | None, peers: Peers | None = None
) -> Tensor | float:
    """What the summed loss is divided by, at least 1.

    Args:
        mode: FULL, VALID, BATCH_SIZE or NONE.
        outer: number of items.
        inner: positions per item.
        valid: which positions count, boolean of any shape; None for all.
        peers: see `share_of_count`.
    """
    if mode == LossParameter.VALID and valid is not None:
        return share_of_count(valid.sum(), peers)
    if mode in (LossParameter.VALID, LossParameter.FULL):
        return max(outer * inner, 1)
    return max(outer, 1) if mode == LossParameter.BATCH_SIZE else 1


def check_batch(bottoms: tuple[Shape, ...]) -> None:
    """Check that bottoms 0 and 1 have items, equally many.

    Raises:
        ShapeError: they differ.
    """
    first, second = bottoms[:2]
    if not first or not second or first[0] != second[0]:
        raise ShapeError(
            f"bottoms 0 and 1 must have the same first dimension, "
            f"got {list(first)} and {list(second)}"
        )


def check_label_count(scores: Shape, labels: Shape, *, axis: int) -> None:
    """Check that there is one label per position of the scores.

    Raises:
        ShapeError: there are more or fewer.
    """
    positions = math.prod(scores[:axis]) * math.prod(scores[axis + 1 :])
    if math.prod(labels) != positions:
        raise ShapeError(
            f"one label per position is needed: scores of shape {list(scores)} with classes on "
            f"axis {axis} have {positions}, labels have shape {list(labels)}"
        )


def one_label_per_item(labels: Shape) -> None:
    """Check that labels have shape (N) or (N, 1, 1, 1).

    Raises:
        ShapeError: an item has several.
    """
    if math.prod(labels[1:]) != 1:
        raise ShapeError(f"one label per item is needed, got shape {list(labels)}")


def class_labels(
    labels: Tensor, shape: Shape, num_classes: int, ignore_label: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Labels as whole numbers, cut toward zero.

    Args:
        labels: floating point, as many as `shape` has.
        shape: shape of the result.
        num_classes: labels are 0..num_classes-1. This is checked on the CPU only, as a GPU would
            have to be waited for; there a wrong label fails in the kernel that uses it.
        ignore_label: this label is allowed too.

    Returns:
        The labels as int64, 0 where ignored, and which are not ignored (None for all).

    Raises:
        LayerError: a label out of range.
    """
    index = labels.detach().reshape(shape).to(torch.int64)
    valid = None
    if ignore_label is not None:
        valid = index != ignore_label
        index = torch.where(valid, index, 0)
    if not index.is_cuda:
        wrong = (index < 0) | (index >= num_classes)
        if bool(wrong.any()):
            raise LayerError(f"labels must lie in 0..{num_classes - 1}, got {int(index[wrong][0])}")
    return index, valid


def check_top_k(top_k: int, largest: int, what: str) -> None:
    """Check a `top_k` setting.

    Raises:
        LayerParamError: not in 1..largest.
    """
    if not 1 <= top_k <= largest:
        raise LayerParamError(f"top_k must lie in 1..{largest}, the number of {what}, got {top_k}")


class _FlooredLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        floored = x.clamp(min=SMALLEST_PROBABILITY)
        ctx.save_for_backward(floored)
        return floored.log()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (floored,) = ctx.saved_tensors
        gradient: Tensor = grads[0] / floored
        return gradient


def floored_log(x: Tensor) -> Tensor:
    """log(max(x, 1e-20)), with 1 / max(x, 1e-20) as the gradient even where the floor applies."""
    y: Tensor = _FlooredLog.apply(x)  # type: ignore[no-untyped-call]
    return y
