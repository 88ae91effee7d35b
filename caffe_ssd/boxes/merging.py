"""One list of detections from several looks at the same pictures: other sizes, mirrored.

An addition to the reference. What the looks found is put together and suppressed once more per
class; box voting (Gidaris and Komodakis, ICCV 2015, section 5) then moves every box that stays to
the mean of all boxes of its class that overlap it, weighted by their scores.

Rows are those of DetectionOutput: (image, label, score, xmin, ymin, xmax, ymax).

Letters: D rows, M boxes, K of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_ssd.boxes.iou import box_area, pairwise_iou
from caffe_ssd.boxes.nms import grouped_nms
from caffe_ssd.boxes.ranking import rank_in_groups

_IMAGE, _LABEL, _SCORE = 0, 1, 2
_BOX = slice(3, 7)
# A score may be 0 where a net has no threshold; its box still counts for itself.
_LEAST_WEIGHT = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, kw_only=True)
class MergeRule:
    """How detections of several looks become one list.

    Args:
        nms_threshold: largest overlap of two detections of a class that both stay.
        vote_threshold: overlap above which a box has a vote; None: boxes stay as they are.
        keep_top_k: detections per image in the end; -1: all.
    """

    nms_threshold: float = 0.45
    vote_threshold: float | None = 0.5
    keep_top_k: int = -1


@torch.no_grad()
def merge_detections(looks: Sequence[Tensor], rule: MergeRule) -> Tensor:
    """Merge what several looks at the same images found.

    Args:
        looks: [D, 7] rows each, with labels of objects only; at least one look.
        rule: the thresholds.

    Returns:
        [D, 7] rows ordered by image, class and falling score; equal scores keep the order of the
        looks. A score is that of the best box among those it stands for.
    """
    rows = torch.cat(list(looks))
    if not len(rows):
        return rows
    device, rows = rows.device, rows.cpu()
    image, label = rows[:, _IMAGE].long(), rows[:, _LABEL].long()
    num_images, num_labels = int(image.max()) + 1, int(label.max()) + 1
    group = image * num_labels + label
    order, _ = rank_in_groups(rows[:, _SCORE], group, num_images * num_labels)
    rows = rows[order]
    sizes = torch.bincount(group, minlength=num_images * num_labels)
    keep = grouped_nms(rows[:, _BOX].numpy(), sizes.numpy(), threshold=rule.nms_threshold)
    kept = torch.from_numpy(keep)
    merged = rows[kept]
    if rule.vote_threshold is not None:
        merged = torch.cat([merged[:, :3], _voted(rows, kept, rule.vote_threshold)], 1)
    if rule.keep_top_k >= 0:
        best, rank = rank_in_groups(merged[:, _SCORE], merged[:, _IMAGE].long(), num_images)
        merged = merged[best[rank < rule.keep_top_k].sort().values]
    return merged.to(device)


@torch.no_grad()
def box_voting(
    boxes: Tensor, scores: Tensor, labels: Tensor, kept: Tensor, *, threshold: float
) -> Tensor:
    """The kept boxes of one image after all its boxes have voted.

    Args:
        boxes: [M, 4].
        scores: [M], at least 0.
        labels: [M]; a box votes for boxes of its own class.
        kept: [M] bool, the boxes that are voted for.
        threshold: a box votes where it overlaps a kept box by more than this. A kept box always
            votes for itself.

    Returns:
        [K, 4]. A box without other voters stays exactly as it is.
    """
    chosen = kept.nonzero()[:, 0]
    votes = pairwise_iou(boxes[chosen], boxes) > threshold
    votes &= labels[chosen, None] == labels
    votes[torch.arange(len(chosen), device=boxes.device), chosen] = True
    # In float64, where the product of two float32 is exact and so is its division.
    weights = votes * scores.double().clamp(min=_LEAST_WEIGHT)
    # Nobody overlaps a box that has grown beyond all numbers, but 0 times infinity is none.
    finite = boxes.isfinite().all(1, keepdim=True)
    sums = weights @ boxes.double().where(finite, 0)
    means = (sums / weights.sum(1, keepdim=True)).to(boxes.dtype)
    return means.where(finite[chosen], boxes[chosen])


def mirrored(rows: Tensor) -> Tensor:
    """Rows as found on mirrored pictures, in the coordinates of the pictures; [D, 7]."""
    xmin, ymin, xmax, ymax = rows[:, _BOX].unbind(1)
    return torch.cat([rows[:, :3], torch.stack([1 - xmax, ymin, 1 - xmin, ymax], 1)], 1)


def of_size(rows: Tensor, low: float, high: float) -> Tensor:
    """The rows whose boxes have a side from `low` to `high`.

    Args:
        rows: [D, 7].
        low: smallest side: the root of the box' area, as a part of the root of the image's.
        high: largest side.
    """
    side = box_area(rows[:, _BOX]).sqrt()
    return rows[(side >= low) & (side <= high)]


def _voted(rows: Tensor, kept: Tensor, threshold: float) -> Tensor:
    """The kept boxes of all images after voting; rows are ordered by image. [K, 4]."""
    lengths: list[int] = torch.bincount(rows[:, _IMAGE].long()).tolist()
    parts = zip(torch.split(rows, lengths), torch.split(kept, lengths), strict=True)
    return torch.cat(
        [
            box_voting(part[:, _BOX], part[:, _SCORE], part[:, _LABEL], marks, threshold=threshold)
            for part, marks in parts
        ]
    )
