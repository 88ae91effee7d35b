"""Which priors the MultiBoxLoss learns from: matching and mining.

Spec: ssd-layers.md sections 2.2 and 2.3; other-forks.md section 13.2 (anchors of each image).
Quirk: images without ground truth yield no negatives, and the ratio holds for each image.
Quirk: mining with an nms_param that does not set top_k finds nothing in the reference; here an
    absent top_k means no limit.

Letters: N images, P priors, C classes, T tables (1, or C for locations per class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType, check_priors, decode, unusable_priors
from caffe_ssd.boxes.ground_truth import GroundTruth
from caffe_ssd.boxes.matching import UNMATCHED, Matches, match_priors
from caffe_ssd.boxes.mining import hardest, hardest_apart
from caffe_ssd.layers.late_check import LateCheck

_UNUSABLE = "a prior was needed that cannot be coded (no size or variance that is positive)"


@dataclass(frozen=True, kw_only=True)
class Priors:
    """The priors and how locations are coded.

    Args:
        boxes: [P, 4], or [N, P, 4] for priors of each image.
        variances: [P, 4].
        code_type: the code.
        variance_in_target: codes already contain the variances.
        late: where priors on a device are found wrong.
    """

    boxes: Tensor
    variances: Tensor
    code_type: CodeType
    variance_in_target: bool
    late: LateCheck = field(default_factory=LateCheck)

    @property
    def divisors(self) -> Tensor | None:
        """The variances if the code uses them."""
        return None if self.variance_in_target else self.variances

    def decode(self, loc: Tensor) -> Tensor:
        """Boxes of location predictions for all priors, [..., P, 4] -> [..., P, 4]."""
        wrong = unusable_priors(self.boxes, None, self.code_type)
        flat = self.boxes.reshape(-1, 4)
        self.late.note(wrong.any(), lambda: check_priors(flat, None, self.code_type), _UNUSABLE)
        return decode(loc, self.boxes, self.divisors, self.code_type)

    def of_tables(self, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Boxes and variances for each image's tables, [N, L, P] -> [N, L, P, 4] each."""
        boxes = self.boxes if self.boxes.dim() == 2 else self.boxes[:, None]
        return boxes.expand(*shape, 4), self.variances.expand(*shape, 4)

    def check_matched(self, matched: Tensor) -> None:
        """Refuse priors that cannot be coded and are matched: [N, L, P] bool."""
        wrong = unusable_priors(self.boxes, self.variances, self.code_type)
        found = matched.any(1)
        wrong = wrong & (found.any(0) if wrong.dim() == 1 else found)
        self.late.note(wrong.any(), lambda: self._refuse(wrong), _UNUSABLE)

    def _refuse(self, wrong: Tensor) -> None:
        numbers = wrong.nonzero()[:, -1]
        boxes, variances = self.boxes[wrong], self.variances[numbers]
        check_priors(boxes, variances, self.code_type, numbers=numbers)


@dataclass(frozen=True, kw_only=True)
class MatchRule:
    """How boxes find their ground truth.

    Args:
        per_prediction: every box that overlaps enough, not only the best for each object.
        overlap_threshold: least overlap for that.
        use_prior: match the priors rather than the predicted boxes.
        ignore_cross_boundary: leave boxes that reach out of the image aside.
    """

    per_prediction: bool = True
    overlap_threshold: float = 0.5
    use_prior: bool = True
    ignore_cross_boundary: bool = False


@dataclass(frozen=True, kw_only=True)
class MiningRule:
    """Which examples are learnt from.

    Args:
        hard_example: choose among positives and negatives alike, rather than negatives only.
        neg_pos_ratio: negatives per positive of an image.
        neg_overlap: negatives overlap every object less than this.
        sample_size: examples per image (hard_example).
        nms_threshold: largest overlap of two examples; 0: any.
        nms_top_k: candidates for that; -1: all.
        use_prior_for_nms: compare priors rather than predicted boxes.
    """

    hard_example: bool = False
    neg_pos_ratio: float = 3.0
    neg_overlap: float = 0.5
    sample_size: int = 64
    nms_threshold: float = 0.0
    nms_top_k: int = -1
    use_prior_for_nms: bool = False


@torch.no_grad()
def match_tables(
    loc: Tensor,
    priors: Priors,
    gts: GroundTruth,
    rule: MatchRule,
    *,
    anchors: Priors | None = None,
    background_label_id: int,
) -> Matches:
    """Match every location class.

    Args:
        loc: [N, P, T, 4] predictions.
        priors: the priors.
        gts: the ground truth.
        rule: how.
        anchors: what is matched in place of priors, if priors are.
        background_label_id: its table stays empty if T > 1.

    Returns:
        Indices and overlaps, [N, T, P] each.
    """
    num_tables = loc.shape[2]
    if rule.use_prior:
        matched = priors if anchors is None else anchors
        found = _match(matched.boxes, gts.boxes, rule)
        if num_tables == 1:
            return Matches(gt=found.gt[:, None], overlap=found.overlap[:, None])
        label = gts.labels_of(found.gt, UNMATCHED)[:, None]  # [N, 1, P]
        own = label == torch.arange(num_tables, device=label.device)[:, None]
        return Matches(
            gt=found.gt[:, None].where(own, UNMATCHED),
            overlap=found.overlap[:, None].expand(own.shape),
        )
    tables = []
    for table in range(num_tables):
        boxes = gts.boxes
        if num_tables > 1:
            wanted = (gts.labels == table) & (table != background_label_id)
            boxes = boxes * wanted[..., None]  # a box without area matches nothing
        tables.append(_match(priors.decode(loc[:, :, table]), boxes, rule))
    return Matches(
        gt=torch.stack([table.gt for table in tables], 1),
        overlap=torch.stack([table.overlap for table in tables], 1),
    )


@torch.no_grad()
def mine(
    found: Matches,
    loss: Tensor,
    loc: Tensor,
    priors: Priors,
    counts: Tensor,
    rule: MiningRule,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose examples by their loss.

    Args:
        found: the matches, [N, P].
        loss: [N, P], what to rank by.
        loc: [N, P, 4] predictions.
        priors: the priors.
        counts: [N], number of ground truth boxes.
        rule: how.
        allowed: [N, P] bool, which priors may be chosen; None for all.

    Returns:
        The matches that remain, [N, P] int64, and the negatives, [N, P] bool.
    """
    positive = found.gt >= 0
    if rule.hard_example:
        eligible = torch.ones_like(positive)
        budget = torch.full_like(counts, rule.sample_size)
    else:
        eligible = (found.gt == UNMATCHED) & (found.overlap < rule.neg_overlap)
        budget = (positive.sum(1).to(torch.float32) * rule.neg_pos_ratio).long()
    eligible &= counts[:, None] > 0
    if allowed is not None:
        eligible &= allowed
    if rule.nms_threshold > 0:
        chosen = _hardest_apart(loss, loc, priors, eligible, budget, rule)
    else:
        chosen = hardest(loss, eligible, budget)
    negative = chosen & (found.gt == UNMATCHED)
    left = found.gt
    if rule.hard_example:
        left = left.masked_fill(positive & ~chosen, UNMATCHED)
    return left, negative


def _match(boxes: Tensor, gts: Tensor, rule: MatchRule) -> Matches:
    return match_priors(
        boxes,
        gts.to(boxes.dtype),
        per_prediction=rule.per_prediction,
        overlap_threshold=rule.overlap_threshold,
        ignore_cross_boundary=rule.ignore_cross_boundary,
    )


def _hardest_apart(
    loss: Tensor, loc: Tensor, priors: Priors, eligible: Tensor, budget: Tensor, rule: MiningRule
) -> Tensor:
    """Chosen on the host, as it goes from box to box: this rule is rare, and waits for a device."""
    boxes = priors.boxes.expand_as(loc) if rule.use_prior_for_nms else priors.decode(loc)
    images = zip(loss.cpu(), boxes.cpu(), eligible.cpu(), budget.tolist(), strict=True)
    chosen = [
        hardest_apart(
            image_loss,
            image_boxes,
            image_eligible,
            budget=image_budget,
            nms_threshold=rule.nms_threshold,
            top_k=rule.nms_top_k,
        )
        for image_loss, image_boxes, image_eligible, image_budget in images
    ]
    return torch.stack(chosen).to(loss.device)
