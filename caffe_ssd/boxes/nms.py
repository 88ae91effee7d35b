"""Greedy non-maximum suppression, exact, for many lists of boxes at once.

Spec: ssd-layers.md sections 2.6 and 3 (step 3).

A list is ordered by falling score. Its boxes are looked at in order and kept unless they overlap a
kept one by more than the threshold. The outcome is the only fixed point of

    kept[i] = no j < i with kept[j] and iou[j, i] > threshold

so it is found by applying that rule to all boxes together until nothing changes, which takes as
many rounds as the longest chain of boxes that decide over each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from caffe_ssd.boxes.iou import pairwise_iou

# Pairs of boxes compared at once: a CPU is fastest inside its cache, a GPU with few launches.
_PAIRS_CPU = 1 << 16
_PAIRS_GPU = 1 << 24
_BLOCK = 512
_ADAPTIVE_ABOVE = 0.5


@torch.no_grad()
def grouped_nms(
    boxes: Tensor, sizes: Sequence[int], *, threshold: float, eta: float = 1.0
) -> Tensor:
    """Suppress overlapping boxes within each list.

    Args:
        boxes: [M, 4], the lists one behind the other, each by falling score.
        sizes: lengths of the lists; their sum is M.
        threshold: largest overlap that is kept.
        eta: below 1, the threshold is multiplied by it after every box kept, as long as it
            is above 0.5; each list begins with the given threshold.

    Returns:
        [M] bool: kept.
    """
    keep = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    adaptive = eta < 1 and threshold > _ADAPTIVE_ABOVE
    for lists in _batches(sizes, boxes.device):
        longest = sizes[lists[0]]
        if longest < 2:
            break
        if len(lists) > 1 and not adaptive:
            _suppress_padded(boxes, [(starts[i], sizes[i]) for i in lists], threshold, keep)
            continue
        for part in (slice(starts[i], starts[i + 1]) for i in lists):
            if adaptive:
                keep[part] = _adaptive(boxes[part], threshold, eta)
            else:
                keep[part] = _in_blocks(boxes[part], threshold)
    return keep


def _batches(sizes: Sequence[int], device: torch.device) -> Iterator[list[int]]:
    """Lists of similar length together, longest first, within the limit of pairs."""
    limit = _PAIRS_CPU if device.type == "cpu" else _PAIRS_GPU
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    while order:
        pairs = max(1, sizes[order[0]]) ** 2
        count = max(1, limit // pairs)
        yield order[:count]
        order = order[count:]


def _suppress_padded(
    boxes: Tensor, spans: Sequence[tuple[int, int]], threshold: float, keep: Tensor
) -> None:
    """Settle several lists, given by start and length, longest first; writes to `keep`."""
    start, size = torch.tensor(spans, device=boxes.device).T
    place = torch.arange(spans[0][1], device=boxes.device)
    inside = place < size[:, None]  # [lists, longest]
    place = (place + start[:, None]).where(inside, 0)
    # Padding has no area, so it overlaps nothing.
    padded = boxes[place].masked_fill_(~inside[..., None], 0)
    keep[place[inside]] = _fixed_point(padded, threshold)[inside]


def _fixed_point(boxes: Tensor, threshold: float) -> Tensor:
    """[L, K, 4] -> [L, K] bool."""
    covers = (pairwise_iou(boxes, boxes) > threshold).triu_(1).float()  # [L, K, K]
    keep = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    while True:
        covered = (keep.float()[:, None] @ covers)[:, 0] > 0
        if bool((covered != keep).all()):
            return keep
        keep = ~covered


def _in_blocks(boxes: Tensor, threshold: float) -> Tensor:
    """One long list, [K, 4] -> [K] bool: only kept boxes are compared with later ones."""
    keep = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for start in range(0, len(boxes), _BLOCK):
        left = keep[start : start + _BLOCK].nonzero()[:, 0] + start
        if len(left) == 0:
            continue
        settled = _fixed_point(boxes[left][None], threshold)[0]
        keep[left] = settled
        later = keep[start + _BLOCK :].nonzero()[:, 0] + start + _BLOCK
        if len(later):
            overlaps = pairwise_iou(boxes[left[settled]], boxes[later])
            keep[later] = overlaps.amax(0) <= threshold
    return keep


def _adaptive(boxes: Tensor, threshold: float, eta: float) -> Tensor:
    """One list, [K, 4] -> [K] bool; the threshold depends on how many were kept before."""
    device = boxes.device
    boxes = boxes.cpu()
    worst = torch.zeros(len(boxes), dtype=boxes.dtype)
    limit = torch.tensor(threshold, dtype=torch.float32)
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    for i in range(len(boxes)):
        if not bool(worst[i] <= limit):
            continue
        keep[i] = True
        if i + 1 < len(boxes):
            overlap = pairwise_iou(boxes[i : i + 1], boxes[i + 1 :])[0]
            worst[i + 1 :] = torch.maximum(worst[i + 1 :], overlap)
        if float(limit) > _ADAPTIVE_ABOVE:
            limit = limit * torch.tensor(eta, dtype=torch.float32)
    return keep.to(device)
