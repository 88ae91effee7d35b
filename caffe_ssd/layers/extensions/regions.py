"""What ROIPooling and PSROIPooling share: regions of interest and the bins they are cut into.

Spec: other-forks.md section 14. A region is [image, x1, y1, x2, y2] in pixels of the input, both
corners included. All arithmetic is float32.

Shapes: R regions, B bins along an axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Shape

ROW_WIDTH = 5


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Cells of each region's bins along one axis.

    Args:
        start: (R, B) first cell.
        end: (R, B) cell behind the last; not above `start` where the bin is empty.
    """

    start: Tensor
    end: Tensor

    def masks(self, length: int) -> Tensor:
        """(R, B, length) bool: which cells of the axis belong to each bin."""
        cells = torch.arange(length, device=self.start.device)
        return (cells >= self.start[..., None]) & (cells < self.end[..., None])


def clipped_bins(start: Tensor, end: Tensor, length: int) -> Bins:
    """Bins that reach from the floor of one end to the ceiling of the other, inside the axis.

    Args:
        start, end: (R, B) float32.
        length: cells of the axis.
    """
    low, high = start.floor().clamp(0, length), end.ceil().clamp(0, length)
    return Bins(start=low.long(), end=high.long())


def round_half_away(x: Tensor) -> Tensor:
    """To whole numbers, halves away from zero as C does."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


def split_regions(rois: Tensor, num_images: int) -> tuple[Tensor, Tensor]:
    """The image of each region, (R,) int64, and its box, (R, 4) float32.

    Raises:
        LayerError: a region of an image that the batch does not have.
    """
    table = rois.detach().reshape(-1, ROW_WIDTH).float()
    image = table[:, 0].long()
    wrong = (image < 0) | (image >= num_images)
    if bool(wrong.any()):
        raise LayerError(
            f"regions (bottom 1) must be of images 0..{num_images - 1}, got {int(image[wrong][0])}"
        )
    return image, table[:, 1:]


def check_regions(features: Shape, rois: Shape) -> int:
    """Check the bottoms of a region layer, and return R.

    Raises:
        ShapeError: features have not 4 axes, or rows not 5 numbers.
    """
    check_rank(features, 4)
    if len(rois) not in (2, 4) or rois[1] != ROW_WIDTH or any(size != 1 for size in rois[2:]):
        raise ShapeError(f"bottom 1 must have shape (R, 5) or (R, 5, 1, 1), got {list(rois)}")
    return rois[0]
