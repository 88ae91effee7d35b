"""Chooses the examples with the largest loss.

Spec: ssd-layers.md section 2.3.
Quirk: equal losses are in no particular order in the reference; here the lower prior comes first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.boxes.iou import box_area
from caffe_ssd.boxes.nms import grouped_nms

_LEAST_AREA = 1e-5


@torch.no_grad()
def hardest(loss: Tensor, eligible: Tensor, budget: Tensor) -> Tensor:
    """Mark the eligible priors with the largest loss, image by image.

    Args:
        loss: [N, P].
        eligible: [N, P] bool.
        budget: [N] int64, how many to mark at most; all eligible ones if there are fewer.

    Returns:
        [N, P] bool.
    """
    budget = torch.minimum(budget, eligible.sum(1))
    masked = loss.masked_fill(~eligible, -torch.inf)
    # The loss of the last one chosen splits the rest into taken, tied and left. Sorting fewer pays
    # where it can be known how many without waiting for a device.
    on_host = loss.device.type == "cpu"
    largest = masked.topk(max(1, int(budget.max())) if on_host else loss.shape[1], dim=1).values
    last = largest.gather(1, (budget - 1).clamp(min=0)[:, None])
    above = (masked > last) & eligible
    tied = (masked == last) & eligible
    room = (budget - above.sum(1))[:, None]
    return (above | (tied & (tied.cumsum(1) <= room))) & (budget > 0)[:, None]


@torch.no_grad()
def hardest_apart(
    loss: Tensor, boxes: Tensor, eligible: Tensor, *, budget: int, nms_threshold: float, top_k: int
) -> Tensor:
    """Mark the eligible priors of one image with the largest loss that do not cover each other.

    Args:
        loss: [P], on the host like all others.
        boxes: [P, 4].
        eligible: [P] bool.
        budget: how many to mark at most.
        nms_threshold: largest overlap of two marked boxes.
        top_k: look at this many only; -1: at all.

    Returns:
        [P] bool.
    """
    order = loss.masked_fill(~eligible, -torch.inf).argsort(descending=True, stable=True)
    order = order[: int(eligible.sum())]
    if top_k > -1:
        order = order[:top_k]
    order = order[box_area(boxes[order]) >= _LEAST_AREA]
    keep = grouped_nms(boxes[order].numpy(), [len(order)], threshold=nms_threshold)
    kept = order[torch.from_numpy(keep)]
    chosen = torch.zeros_like(eligible)
    chosen[kept[:budget]] = True
    return chosen
