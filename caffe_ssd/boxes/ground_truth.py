"""The ground truth blob as tensors per image.

Spec: ssd-layers.md section 2.1.
Quirk: the background label is refused even in a row that would be skipped as difficult.

Letters: N images, G ground truth boxes of an image (padded to the largest number).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerError

LABEL_WIDTH = 8
_ITEM, _LABEL, _DIFFICULT = 0, 1, 7
_PADDING = -1


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """What is in the images of a batch.

    Args:
        boxes: [N, G, 4], G at least 1; padded with boxes without area.
        labels: [N, G] int64; padded with -1.
        counts: [N] int64, how many are not padding.
        has_odd_labels: whether a label is none of those that were expected.
    """

    boxes: Tensor
    labels: Tensor
    counts: Tensor
    has_odd_labels: bool

    @property
    def length(self) -> int:
        """G."""
        return self.boxes.shape[1]

    @property
    def is_plain(self) -> bool:
        """Whether nobody has to look at the labels."""
        return not self.has_odd_labels

    def padded(self, length: int) -> GroundTruth:
        """The same with G boxes per image, and at most that many real ones."""
        more = length - self.length
        boxes, labels = F.pad(self.boxes, (0, 0, 0, more)), F.pad(self.labels, (0, more), value=-1)
        return self.with_tensors(boxes, labels, self.counts)

    def tensors(self) -> tuple[Tensor, ...]:
        """Boxes, labels and counts."""
        return self.boxes, self.labels, self.counts

    def with_tensors(self, *tensors: Tensor) -> GroundTruth:
        """The same with other boxes, labels and counts."""
        boxes, labels, counts = tensors
        return replace(self, boxes=boxes, labels=labels, counts=counts)

    def labels_of(self, match: Tensor, otherwise: int) -> Tensor:
        """Labels of matched boxes.

        Args:
            match: [N, P] index of a box, or negative.
            otherwise: the label where it is negative.

        Returns:
            [N, P] int64.
        """
        return torch.where(match >= 0, self.labels.gather(1, match.clamp(min=0)), otherwise)


@torch.no_grad()
def read_ground_truth(
    blob: Tensor,
    *,
    num_images: int,
    background_label_id: int,
    use_difficult: bool,
    label_end: int | None = None,
) -> GroundTruth:
    """Sort the rows of the blob by image; an image's boxes stay in the order of their rows.

    Args:
        blob: on the host, rows of 8: (item, label, instance, xmin, ymin, xmax, ymax, difficult);
            rows of item -1 are padding.
        num_images: N; rows of later items are ignored.
        background_label_id: a label that must not occur.
        use_difficult: keep boxes that are marked difficult.
        label_end: labels are expected to be from 0 to below this; None: to any number.

    Raises:
        LayerError: the background label occurs.
    """
    rows = blob.detach().reshape(-1, LABEL_WIDTH)
    rows = rows[rows[:, _ITEM].long() != _PADDING]
    if bool((rows[:, _LABEL].long() == background_label_id).any()):
        raise LayerError(
            f"the background label {background_label_id} is in the ground truth; only labels of "
            "objects are allowed (see background_label_id)"
        )
    item = rows[:, _ITEM].long()
    used = (item >= 0) & (item < num_images)
    if not use_difficult:
        used &= rows[:, _DIFFICULT] == 0
    rows, item = rows[used], item[used]
    order = item.argsort(stable=True)
    rows, item = rows[order], item[order]

    counts = torch.bincount(item, minlength=num_images)
    place = torch.arange(len(item)) - (counts.cumsum(0) - counts)[item]
    longest = max(1, int(counts.max()) if num_images else 0)
    boxes = rows.new_zeros(num_images, longest, 4)
    boxes[item, place] = rows[:, 3:7]
    found = rows[:, _LABEL].long()
    labels = torch.full((num_images, longest), -1)
    labels[item, place] = found
    odd = found < 0
    if label_end is not None:
        odd |= found >= label_end
    return GroundTruth(boxes=boxes, labels=labels, counts=counts, has_odd_labels=bool(odd.any()))
