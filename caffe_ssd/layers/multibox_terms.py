"""The terms of the MultiBoxLoss, before they are summed and normalised.

Spec: ssd-layers.md sections 2.3 to 2.5.
Quirk: with variance_in_target the gradient is that of the divided prediction.
Quirk: the softmax loss stops growing at a probability of FLT_MIN; its gradient goes on.

Letters: N images, P priors, C classes, L location classes (1 or C), R rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from caffe_ssd.boxes.coding import decode, encode
from caffe_ssd.boxes.ground_truth import GroundTruth
from caffe_ssd.layers.multibox_examples import Priors

LEAST_PROBABILITY = torch.finfo(torch.float32).tiny


class Rows:
    """Places of a mask, for losses that are summed over them.

    On the CPU they are gathered. On a device that would mean to wait until their number is known,
    so all places are computed there and those not meant are set to 0, which adds up to the same.

    Args:
        mask: [...] bool, which places are meant.
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask
        self._places = mask.nonzero(as_tuple=True) if mask.device.type == "cpu" else None

    def of(self, values: Tensor) -> Tensor:
        """Their values: [*mask.shape, ...] -> [R, ...]."""
        if self._places is not None:
            return values[self._places]
        return values.flatten(0, self._mask.dim() - 1)

    def only(self, values: Tensor) -> Tensor:
        """0 in rows that are not meant: [R, ...] -> [R, ...]."""
        if self._places is not None:
            return values
        meant = self._mask.flatten().view(-1, *[1] * (values.dim() - 1))
        return values.where(meant, 0)

    def spread(self, values: Tensor) -> Tensor:
        """Each row's value at its place, 0 elsewhere: [R] -> [*mask.shape]."""
        if self._places is None:
            return self.only(values).view(self._mask.shape)
        spread = values.new_zeros(self._mask.shape)
        spread[self._places] = values
        return spread


def location_loss(prediction: Tensor, target: Tensor, *, smooth: bool) -> Tensor:
    """Element by element, half the square; linear beyond 1 if smooth."""
    if smooth:
        return F.smooth_l1_loss(prediction, target, reduction="none")
    return 0.5 * (prediction - target).square()


def softmax_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log probability of the target class: [R, C], [R] -> [R].

    The value is limited as the reference's, the gradient is not.
    """
    loss = F.cross_entropy(logits, target, reduction="none")
    limited = loss.detach().clamp(max=-math.log(LEAST_PROBABILITY))
    return limited + (loss - loss.detach())


def logistic_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sigmoid cross entropy summed over classes: [R, C], [R, C] -> [R]."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(-1)


@torch.no_grad()
def ranking_loss(conf: Tensor, label: Tensor, *, logistic: bool) -> Tensor:
    """The class loss by which examples are ranked: [N, P, C], [N, P] -> [N, P].

    It follows the reference's arithmetic, as equal losses are ranked by position.
    """
    if logistic:
        return logistic_loss(conf, F.one_hot(label, conf.shape[-1]).to(conf.dtype))
    exponential = (conf - conf.amax(-1, keepdim=True)).exp_()
    probability = exponential.gather(-1, label[..., None])[..., 0] / exponential.sum(-1)
    return -probability.clamp(min=LEAST_PROBABILITY).log()


def class_loss(
    conf: Tensor, label: Tensor, matched: Tensor, negative: Tensor | None, *, logistic: bool
) -> Tensor:
    """The class loss summed over its rows: the positives and the mined negatives.

    Args:
        conf: [N, P, C] logits.
        label: [N, P] class of each prior, the background where it has no object.
        matched: [N, P] bool, the positives.
        negative: [N, P] bool; None: without mining every prior is a row.
        logistic: LOGISTIC rather than SOFTMAX.
    """
    if negative is None:
        rows, target = conf.flatten(0, 1), label.flatten()
        if not logistic:
            return softmax_loss(rows, target).sum()
        # Without mining no output stands for the background.
        objects = matched.flatten()
        one_hot = F.one_hot(target.where(objects, 0), conf.shape[-1]) * objects[:, None]
        return logistic_loss(rows, one_hot.to(rows.dtype)).sum()
    chosen = Rows(matched | negative)
    rows, target = chosen.of(conf), chosen.of(label)
    if not logistic:
        return chosen.only(softmax_loss(rows, target)).sum()
    one_hot = F.one_hot(target, conf.shape[-1]).to(rows.dtype)
    return chosen.only(logistic_loss(rows, one_hot)).sum()


def location_pair(
    loc: Tensor,
    priors: Priors,
    gts: GroundTruth,
    match: Tensor,
    *,
    bp_inside: bool,
    use_prior: bool,
) -> tuple[Rows, Tensor, Tensor]:
    """Predictions and targets of the positives.

    Args:
        loc: [N, P, L, 4] predictions.
        priors: the priors.
        gts: the ground truth.
        match: [N, L, P] index of the ground truth box, or negative.
        bp_inside: where a coordinate lies outside the image, the prediction is replaced by
            the target and so teaches nothing.
        use_prior: that coordinate is the prior's rather than the predicted box's.

    Returns:
        The positives among [N, L, P], and two tensors [R, 4].

    Raises:
        LayerError: a positive's prior cannot be coded; on a device `priors.late` raises it.
    """
    positives = Rows(match >= 0)
    priors.check_matched(match >= 0)
    boxes, variances = (positives.of(each) for each in priors.of_tables(match.shape))
    prediction = positives.of(loc.transpose(1, 2))
    images = torch.arange(len(match), device=match.device)[:, None, None].expand_as(match)
    gt = gts.boxes[positives.of(images), positives.of(match).clamp(min=0)].to(boxes.dtype)
    divisors = None if priors.variance_in_target else variances
    target = positives.only(encode(gt, boxes, divisors, priors.code_type))
    if bp_inside:
        where = (
            boxes if use_prior else decode(prediction.detach(), boxes, divisors, priors.code_type)
        )
        prediction = torch.where((where < 0) | (where > 1), target, prediction)
    if priors.variance_in_target:
        target = positives.only(target / variances)
        prediction = divide_without_gradient(prediction, variances)
    return positives, positives.only(prediction), target


def divide_without_gradient(value: Tensor, divisor: Tensor) -> Tensor:
    """A quotient whose gradient reaches the value undivided."""
    quotient: Tensor = _DivideWithoutGradient.apply(value, divisor)  # type: ignore[no-untyped-call]
    return quotient


class _DivideWithoutGradient(Function):
    """Division whose gradient is handed on undivided."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, divisor: Tensor) -> Tensor:
        return value / divisor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
