"""Areas and overlaps of boxes.

Spec: ssd-layers.md section 0.1.
Quirk: in pixel mode a box from 0 to 9 is 10 wide, and boxes that do not meet overlap by one pixel.

Nothing here is differentiable: the reference uses overlaps to choose, never to learn.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes: Tensor, *, pixel: bool = False) -> Tensor:
    """Areas; 0 where a box is turned inside out.

    Args:
        boxes: [..., 4].
        pixel: count the last pixel too.

    Returns:
        [...].
    """
    xmin, ymin, xmax, ymax = boxes.unbind(-1)
    extra = 1 if pixel else 0
    area = (xmax - xmin + extra) * (ymax - ymin + extra)
    return area.masked_fill((xmax < xmin) | (ymax < ymin), 0)


def intersect(a: Tensor, b: Tensor) -> Tensor:
    """The common part of two boxes, (0, 0, 0, 0) where there is none.

    Args:
        a: [..., 4].
        b: [..., 4], broadcast with `a`.

    Returns:
        [..., 4].
    """
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    apart = (b[..., :2] > a[..., 2:]) | (b[..., 2:] < a[..., :2])
    return torch.cat([low, high], -1).masked_fill(apart.any(-1, keepdim=True), 0)


@torch.no_grad()
def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every a with every b.

    Args:
        a: [..., A, 4].
        b: [..., B, 4], leading axes broadcast with those of `a`. The result is laid out along B, so
            the longer list should be this one.

    Returns:
        [..., A, B], in [0, 1]; 0 where boxes only touch or have no area.
    """
    inter = _overlap(a, b, 0).clamp_(min=0)
    inter.mul_(_overlap(a, b, 1).clamp_(min=0))
    # Two boxes without area would give 0 / 0; any positive union makes that 0.
    least = torch.finfo(inter.dtype).tiny
    area_a, area_b = box_area(a).clamp_(min=least), box_area(b).clamp_(min=least)
    return inter.div_((area_a[..., :, None] + area_b[..., None, :]).sub_(inter))


@torch.no_grad()
def pairwise_iou_px(a_px: Tensor, b_px: Tensor, a_area: Tensor, b_area: Tensor) -> Tensor:
    """Intersection over union in whole pixels.

    Args:
        a_px: [..., A, 4], pixels.
        b_px: [..., B, 4], pixels.
        a_area: [..., A]; given because the reference's areas do not always follow from the boxes.
        b_area: [..., B].

    Returns:
        [..., A, B]; a tiny positive number where boxes do not meet.
    """
    width, height = _overlap(a_px, b_px, 0), _overlap(a_px, b_px, 1)
    inter = ((width + 1) * (height + 1)).masked_fill_((width < 0) | (height < 0), 1)
    return inter / (a_area[..., :, None] + b_area[..., None, :] - inter)


def coverage(a: Tensor, b: Tensor) -> Tensor:
    """Fraction of each `a` that its `b` covers.

    Args:
        a: [..., 4].
        b: [..., 4], broadcast with `a`.

    Returns:
        [...], in [0, 1]; 0 for an `a` without area.
    """
    common = box_area(intersect(a, b))
    return torch.where(common > 0, common / box_area(a), 0)


def clip_boxes(boxes: Tensor, height: float | Tensor = 1, width: float | Tensor = 1) -> Tensor:
    """Move coordinates into the image.

    Args:
        boxes: [..., 4].
        height: upper limit of y; 1 for normalised boxes.
        width: upper limit of x.

    Returns:
        [..., 4].
    """
    if not isinstance(height, Tensor) and height == width:
        return boxes.clamp(0, height)
    limits = [torch.as_tensor(v, dtype=boxes.dtype, device=boxes.device) for v in (width, height)]
    high = torch.stack([*limits, *limits], -1)
    return torch.minimum(boxes, high).clamp(min=0)


def crosses_boundary(boxes: Tensor) -> Tensor:
    """Whether a coordinate lies outside [0, 1]; [..., 4] -> [...]."""
    return ((boxes < 0) | (boxes > 1)).any(-1)


def _overlap(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Length of the overlap along x (0) or y (1); negative for a gap. [..., A, B]."""
    # Contiguous coordinates along the long axis B let the CPU use its vector units.
    low_b, high_b = b[..., axis].contiguous(), b[..., axis + 2].contiguous()
    high = torch.minimum(a[..., :, None, axis + 2], high_b[..., None, :])
    return high.sub_(torch.maximum(a[..., :, None, axis], low_b[..., None, :]))
