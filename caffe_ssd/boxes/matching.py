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
from torch.nn import functional as F

from caffe_ssd.boxes.iou import crosses_boundary, pairwise_iou

UNMATCHED = -1
IGNORED = -2

_LEAST_OVERLAP = 1e-6
# Overlaps computed at once: a CPU is fastest inside its cache, a GPU with few launches.
_PAIRS_CPU = 1 << 17
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
    shared = boxes.dim() == 2
    # One more box, without area: what is written for it means nothing (see `_match_each_gt`).
    boxes = F.pad(boxes, (0, 0, 0, 1))
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
        iou = pairwise_iou(gts[part], boxes if shared else boxes[part])  # [N, G, P]
        if crossing is not None:
            iou.masked_fill_((crossing if shared else crossing[part]).unsqueeze(-2), 0)
        best, gt = iou.max(1)  # the first gt on ties
        real = best > _LEAST_OVERLAP
        overlap[part] = best.where(real, 0)
        if per_prediction:
            match[part] = gt.where(real & (best >= overlap_threshold), match[part])
        _match_each_gt(iou, match[part], overlap[part])
    return Matches(gt=match[:, :-1], overlap=overlap[:, :-1])


def _match_each_gt(iou: Tensor, match: Tensor, overlap: Tensor) -> None:
    """The bipartite step; overwrites its three arguments. The last box is nobody's.

    The reference repeatedly takes the pair with the largest overlap, ties going to the first box
    and then to the first gt. A pair that is the best of both its box and its gt under that order
    will be taken sooner or later whatever happens elsewhere, so each round takes all such pairs at
    once. Every round settles a gt of each image, and mostly many: as many rounds as gts always
    suffice, and only where asking costs nothing is it asked whether fewer do.
    """
    num_images, num_gts, num_boxes = iou.shape
    gt = torch.arange(num_gts, device=iou.device)
    image = torch.arange(num_images, device=iou.device)[:, None]
    for _ in range(num_gts):
        best, box = iou.amax(2), _first_largest(iou)  # [N, G], the first box on ties
        open_ = best > _LEAST_OVERLAP
        if iou.device.type == "cpu" and not bool(open_.any()):
            return
        rivals = iou.gather(2, box[:, None].expand(-1, num_gts, -1))  # [N, gt, box of a gt]
        taken = open_ & (rivals.argmax(1) == gt)
        box = box.where(taken, num_boxes - 1)
        match[image, box] = gt.expand_as(box)
        overlap[image, box] = best
        iou.mul_((~taken).to(iou.dtype)[..., None])
        iou[image, :, box] = iou.new_zeros(())  # a plain 0 would be sent from the host


def _first_largest(x: Tensor) -> Tensor:
    """argmax(-1), the first one on ties; on the CPU NumPy's is many times as fast."""
    return torch.from_numpy(x.numpy().argmax(-1)) if x.device.type == "cpu" else x.argmax(-1)
