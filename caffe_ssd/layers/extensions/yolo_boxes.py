"""What the outputs of YOLO nets share: candidates of all maps, suppressed and put into rows.

Spec: other-forks.md section 15.
Quirk: suppression looks at all classes together.
Quirk: boxes are not clipped.

Letters: N images, B boxes a cell, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.boxes.nms import grouped_nms
from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.detection_output import detection_rows
from caffe_ssd.layers.registry import Shape


def split_boxes(bottom: Tensor, num_box: int) -> Tensor:
    """(N, B E, H, W) to (N, B, H, W, E): the E numbers of each box."""
    boxes = bottom.reshape(len(bottom), num_box, -1, *bottom.shape[2:])
    return boxes.permute(0, 1, 3, 4, 2)


def decode_boxes(entries: Tensor, anchors: Tensor) -> Tensor:
    """Boxes relative to the image, (N, B, H, W, 4), corners.

    Args:
        entries: (N, B, H, W, 4), raw x, y, width, height.
        anchors: (B, 2), width and height that raw ones of 0 stand for, relative to the image.
    """
    height, width = entries.shape[2:4]
    row = torch.arange(height, device=entries.device)[:, None]
    column = torch.arange(width, device=entries.device)
    x = (column + torch.sigmoid(entries[..., 0])) / width
    y = (row + torch.sigmoid(entries[..., 1])) / height
    half = entries[..., 2:4].exp() * anchors[:, None, None] / 2
    center = torch.stack([x, y], -1)
    return torch.cat([center - half, center + half], -1)


def suppressed_rows(
    image: Tensor, label: Tensor, score: Tensor, boxes: Tensor, *, threshold: float, num_images: int
) -> Tensor:
    """The top of an output layer, (1, 1, D, 7), by falling score.

    Args:
        image, label: [K] int64.
        score: [K].
        boxes: [K, 4].
        threshold: boxes that overlap a better one by this much or more go.
        num_images: N.
    """
    order = score.argsort(descending=True, stable=True)
    by_image = order[image[order].argsort(stable=True)]
    sizes = torch.bincount(image, minlength=num_images).cpu().numpy()
    # What is equal goes here, and stays in `grouped_nms`.
    below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    kept = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    keep = grouped_nms(boxes[by_image].cpu().numpy(), sizes, threshold=below)
    kept[by_image] = torch.from_numpy(keep).to(kept.device)
    order = order[kept[order]]
    columns = torch.stack([image, label], 1).to(boxes.dtype)
    rows = torch.cat([columns, score[:, None], boxes], 1)[order]
    return detection_rows(rows, num_images)


def check_maps(bottoms: Sequence[Shape], num_box: int, entries: int) -> None:
    """Check that each bottom holds the numbers of every box of every cell.

    Raises:
        ShapeError: one does not.
    """
    for i, shape in enumerate(bottoms):
        if len(shape) != 4 or shape[1] != num_box * entries or shape[0] != bottoms[0][0]:
            raise ShapeError(
                f"bottom {i} must have shape ({bottoms[0][0]}, {num_box * entries}, H, W), "
                f"{entries} numbers for each of {num_box} boxes, got {list(shape)}"
            )


def read_anchors(biases: Sequence[float]) -> list[tuple[float, float]]:
    """Widths and heights out of a list that names them in turn.

    Raises:
        LayerParamError: the list is empty or has an odd length.
    """
    if not biases or len(biases) % 2:
        raise LayerParamError(
            f"biases must be pairs of width and height, at least one, got {len(biases)} numbers"
        )
    return list(zip(biases[::2], biases[1::2], strict=True))
