"""Places of entries within their groups."""

from __future__ import annotations

import torch
from torch import Tensor


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
