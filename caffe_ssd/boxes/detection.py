"""From the network's raw outputs to a list of detections.

Spec: ssd-layers.md section 3; other-forks.md sections 12 (clip) and 13.1 (priors of each image).
Quirk: boxes are not clipped, and an image's rows are ordered by class, then by score.
Quirk: equal scores keep the order of the priors; the reference's GPU build leaves it open.

Letters: N images, P priors, C classes, L location classes (1 or C), D detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType, decode
from caffe_ssd.boxes.nms import grouped_nms

LOWEST_SCORE = torch.finfo(torch.float32).min

# Candidates per class that are settled first, to learn which scores can still matter.
_FIRST_LOOK = 32


@dataclass(frozen=True, kw_only=True)
class DetectionRule:
    """What makes a detection.

    Args:
        background_label_id: the class that is none; -1: every class counts.
        confidence_threshold: scores must exceed it.
        nms_threshold: largest overlap of two detections of a class.
        top_k: candidates per class before suppression; -1: all.
        eta: see `grouped_nms`.
        keep_top_k: detections per image after suppression; -1: all.
        clip: cut boxes to the image before suppression.
    """

    background_label_id: int = 0
    confidence_threshold: float = LOWEST_SCORE
    nms_threshold: float = 0.3
    top_k: int = -1
    eta: float = 1.0
    keep_top_k: int = -1
    clip: bool = False


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Entries ordered by image, class and falling score; [M] each."""

    image: Tensor
    label: Tensor
    prior: Tensor
    score: Tensor

    def __getitem__(self, index: Tensor) -> _Candidates:
        return _Candidates(
            image=self.image[index],
            label=self.label[index],
            prior=self.prior[index],
            score=self.score[index],
        )


@torch.no_grad()
def detect(
    loc: Tensor,
    scores: Tensor,
    priors: Tensor,
    variances: Tensor | None,
    *,
    code_type: CodeType,
    rule: DetectionRule,
) -> Tensor:
    """Decode, suppress and select.

    Args:
        loc: [N, P, L, 4] location codes.
        scores: [N, P, C], as probabilities.
        priors: [P, 4], or [N, P, 4] for priors of each image.
        variances: [P, 4]; None if the codes already contain them.
        code_type: of `loc`.
        rule: the thresholds.

    Returns:
        [D, 7] rows (image, label, score, xmin, ymin, xmax, ymax).
    """
    num_images, num_priors = scores.shape[:2]

    def settled(chosen: Tensor) -> tuple[_Candidates, Tensor]:
        """Those of the chosen entries that better ones leave, and their boxes."""
        found, sizes = _ordered(scores, chosen, rule)
        loc_class = found.label if loc.shape[2] > 1 else torch.zeros_like(found.label)
        boxes = decode(
            loc[found.image, found.prior, loc_class],
            priors[found.prior] if priors.dim() == 2 else priors[found.image, found.prior],
            None if variances is None else variances[found.prior],
            code_type,
        )
        boxes = boxes.clamp(0, 1) if rule.clip else boxes
        kept = grouped_nms(boxes, sizes, threshold=rule.nms_threshold, eta=rule.eta)
        return found[kept], boxes[kept]

    chosen = scores > rule.confidence_threshold
    if rule.background_label_id >= 0:
        chosen[:, :, rule.background_label_id] = False
    if 0 <= rule.keep_top_k < int(chosen.sum()) and num_priors > _FIRST_LOOK:
        # Whether a box is kept depends on better boxes of its class alone. So the best few of each
        # class are settled first; where an image has enough of them, lower scores have no chance.
        first, _ = settled(chosen & (scores > _score_behind(scores, _FIRST_LOOK)))
        chosen &= scores >= _floors(first, rule.keep_top_k, num_images)[:, None, None]
    found, boxes = settled(chosen)
    if rule.keep_top_k > -1:
        order, rank = rank_in_groups(found.score, found.image, num_images)
        kept = torch.zeros_like(found.image, dtype=torch.bool)
        kept[order] = rank < rule.keep_top_k
        found, boxes = found[kept], boxes[kept]
    columns = torch.stack([found.image, found.label], 1).to(boxes.dtype)
    return torch.cat([columns, found.score[:, None].to(boxes.dtype), boxes], 1)


def _ordered(scores: Tensor, chosen: Tensor, rule: DetectionRule) -> tuple[_Candidates, list[int]]:
    """The `top_k` best chosen entries of every image and class, and how many each class has."""
    num_images, num_priors, num_classes = scores.shape
    limit = rule.top_k if 0 <= rule.top_k < num_priors else num_priors
    if 0 < limit < num_priors:
        chosen = chosen & (scores >= _score_at_rank(scores, chosen, limit))
    image, prior, label = chosen.nonzero(as_tuple=True)
    found = _Candidates(image=image, label=label, prior=prior, score=scores[image, prior, label])
    group = image * num_classes + label
    order, rank = rank_in_groups(found.score, group, num_images * num_classes)
    found = found[order[rank < limit]]
    group = found.image * num_classes + found.label
    sizes: list[int] = torch.bincount(group, minlength=num_images * num_classes).tolist()
    return found, sizes


def _score_behind(scores: Tensor, rank: int) -> Tensor:
    """Per image and class, the score that fewer than `rank + 1` entries exceed. [N, 1, C]."""
    best = scores.transpose(1, 2).topk(rank + 1, dim=2, sorted=False).values
    return best.amin(2)[:, None]


def _floors(first: _Candidates, count: int, num_images: int) -> Tensor:
    """Per image, the score of the entry that makes it `count`; -inf where there are fewer. [N]."""
    order, place = rank_in_groups(first.score, first.image, num_images)
    last = order[place == count - 1]
    floors = first.score.new_full((num_images,), -torch.inf)
    floors[first.image[last]] = first.score[last]
    return floors


def _score_at_rank(scores: Tensor, chosen: Tensor, rank: int) -> Tensor:
    """Per image and class, a score below which nothing is among the best `rank`. [N, 1, C].

    This only spares sorting long lists; equal scores are sorted out later.
    """
    floor = scores.new_full((scores.shape[0], scores.shape[2]), -torch.inf)
    crowded = chosen.sum(1) > rank
    columns = scores.transpose(1, 2)[crowded]
    if len(columns):
        floor[crowded] = columns.topk(rank, dim=1, sorted=False).values.amin(1)
    return floor[:, None]


def rank_in_groups(score: Tensor, group: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Order by group, then by falling score; and the place of each within its group.

    Args:
        score: [M].
        group: [M] numbers from 0.
        num_groups: more than the largest of them.

    Returns:
        Indices in that order, [M], and the rank of each of them, from 0; equal scores keep their
        order.
    """
    order = score.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    counts = torch.bincount(group, minlength=num_groups)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(order), device=order.device)
    return order, place - starts[group[order]]
