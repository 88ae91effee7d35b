"""From normalised boxes back to pixels of the original image.

Spec: ssd-layers.md section 3.1 (a resize setting says how the image became the network's input).
Quirk: a box that lies wholly in the padding is treated as if there were none.
Quirk: areas count the last pixel, except those of the scaled FIT_SMALL_SIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from caffe_ssd.boxes.iou import box_area, clip_boxes


class ResizeMode(IntEnum):
    """How an image was brought to the input size, numbered as in the prototxt."""

    WARP = 1
    FIT_SMALL_SIZE = 2
    FIT_LARGE_SIZE_AND_PAD = 3


@dataclass(frozen=True, kw_only=True)
class AppliedResize:
    """How images were resized, which boxes are brought back from.

    Args:
        mode: how.
        height: of the input, in pixels.
        width: of the input, in pixels.
        height_scale: FIT_SMALL_SIZE: what a y of 1 stands for, in pixels; 0: the image's height.
        width_scale: the same for x.
    """

    mode: ResizeMode
    height: int
    width: int
    height_scale: int = 0
    width_scale: int = 0


def to_image_px(
    boxes: Tensor, heights: Tensor, widths: Tensor, resize: AppliedResize | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes in pixels of their images, clipped to them.

    Args:
        boxes: [D, 4].
        heights: [D], pixels, of the image each box belongs to.
        widths: [D].
        resize: None if the image was only warped.

    Returns:
        Boxes [D, 4], counted from 0, and areas [D] as the pixel mode of the overlap wants them.
    """
    heights, widths = heights.to(boxes.dtype), widths.to(boxes.dtype)
    if resize is not None and resize.mode == ResizeMode.FIT_SMALL_SIZE:
        if resize.height_scale > 0 and resize.width_scale > 0:
            unit = boxes.new_tensor([resize.width_scale, resize.height_scale])
            boxes_px = clip_boxes(boxes * unit.repeat(2), heights, widths)
            return boxes_px, box_area(boxes_px)
    elif resize is not None and resize.mode == ResizeMode.FIT_LARGE_SIZE_AND_PAD:
        boxes = _without_padding(boxes, heights, widths, resize)
    boxes_px = clip_boxes(boxes) * torch.stack([widths, heights, widths, heights], -1)
    return boxes_px, box_area(boxes_px, pixel=True)


def _without_padding(
    boxes: Tensor, heights: Tensor, widths: Tensor, resize: AppliedResize
) -> Tensor:
    """Boxes relative to the part of the input that shows the image."""
    aspect = widths / heights
    input_aspect = resize.width / resize.height
    wide = aspect > input_aspect
    pad_y = torch.where(wide, (resize.height - resize.width / aspect) / 2, 0) / resize.height
    pad_x = torch.where(wide, 0, (resize.width - resize.height * aspect) / 2) / resize.width
    low = torch.stack([pad_x, pad_y], -1)
    high = 1 - low
    outside = ((boxes[:, :2] >= high) | (boxes[:, 2:] <= low)).any(-1, keepdim=True)
    shown = (boxes - low.repeat(1, 2)) / (high - low).repeat(1, 2)
    return torch.where(outside, boxes, shown)
