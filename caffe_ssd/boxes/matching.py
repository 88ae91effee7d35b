"""Assigns ground truth boxes to priors, as the loss needs it.

Spec: ssd-layers.md section 2.2.
Quirk: the bipartite step takes any overlap above 1e-6, whatever the threshold, and then writes down
    the overlap of the pair, which may be less than the prior's best.

Letters: N images, G ground truth boxes (padded), P priors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_ssd.boxes.iou import crosses_boundary, pairwise_iou

UNMATCHED = -1
IGNORED = -2

_LEAST_OVERLAP = 1e-6
# Overlaps computed at once: a CPU is fastest inside its cache, a GPU with few launches.
_PAIRS_CPU = 1 << 18
_PAIRS_GPU = 1 << 26


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The outcome for every prior of every image.

    Args:
        gt: [N, P] index of the ground truth box, UNMATCHED or IGNORED.
        overlap: [N, P] its overlap; for other priors the best with any ground truth box.
    """

    gt: Tensor
    overlap: Tensor


@torch.no_grad()
def match_priors(
    boxes: Tensor,
    gts: Tensor,
    *,
    per_prediction: bool,
    overlap_threshold: float,
    ignore_cross_boundary: bool,
) -> Matches:
    """Match boxes to ground truth: first one box for each gt, then all that overlap enough.

    Args:
        boxes: [P, 4] or [N, P, 4].
        gts: [N, G, 4]; padded with boxes without area, which match nothing.
        per_prediction: also do the second step.
        overlap_threshold: least overlap in the second step.
        ignore_cross_boundary: leave boxes that reach out of the image aside (IGNORED).
    """
    num_images, num_gts = gts.shape[:2]
    num_boxes = boxes.shape[-2]
    match = torch.full((num_images, num_boxes), UNMATCHED, dtype=torch.int64, device=gts.device)
    overlap = torch.zeros(match.shape, dtype=boxes.dtype, device=gts.device)
    crossing = crosses_boundary(boxes) if ignore_cross_boundary else None
    if crossing is not None:
        match.masked_fill_(crossing, IGNORED)
    limit = _PAIRS_CPU if gts.device.type == "cpu" else _PAIRS_GPU
    step = max(1, limit // max(1, num_gts * num_boxes))
    for start in range(0, num_images if num_gts else 0, step):
        part = slice(start, start + step)
        shared = boxes.dim() == 2
        iou = pairwise_iou(gts[part], boxes if shared else boxes[part])  # [N, G, P]
        if crossing is not None:
            iou.masked_fill_((crossing if shared else crossing[part]).unsqueeze(-2), 0)
        best = iou.amax(1)
        overlap[part] = best.where(best > _LEAST_OVERLAP, 0)
        if per_prediction:
            enough = (best >= overlap_threshold) & (best > _LEAST_OVERLAP)
            image, box = enough.nonzero(as_tuple=True)
            match[part][image, box] = iou[image, :, box].argmax(1)  # the first gt on ties
        _match_each_gt(iou, match[part], overlap[part])
    return Matches(gt=match, overlap=overlap)


def _match_each_gt(iou: Tensor, match: Tensor, overlap: Tensor) -> None:
    """The bipartite step; overwrites its three arguments.

    The reference repeatedly takes the pair with the largest overlap, ties going to the first box
    and then to the first gt. A pair that is the best of both its box and its gt under that order
    will be taken sooner or later whatever happens elsewhere, so each round takes all such pairs at
    once; a few rounds settle every gt.
    """
    best, box = iou.max(2)  # [N, G], the first box on ties
    image, gt = torch.ones_like(best, dtype=torch.bool).nonzero(as_tuple=True)
    best, box = best.flatten(), box.flatten()
    while True:
        left = best > _LEAST_OVERLAP
        image, gt, best, box = image[left], gt[left], best[left], box[left]
        if len(image) == 0:
            return
        mutual = iou[image, :, box].argmax(1) == gt
        taken = (image[mutual], gt[mutual], box[mutual])
        match[taken[0], taken[2]] = taken[1]
        overlap[taken[0], taken[2]] = best[mutual]
        iou[taken[0], taken[1]] = 0
        iou[taken[0], :, taken[2]] = 0
        image, gt = image[~mutual], gt[~mutual]
        best, box = iou[image, gt].max(1) if len(image) else (best[:0], box[:0])
