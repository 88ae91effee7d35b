"""DetectionEvaluate: marks every detection as a true or false positive.

Spec: ssd-layers.md section 4.
Quirk: ground truth ends at the first row of -1 (the loss skips such rows).
Quirk: a detection that best overlaps an ignored difficult object is neither true nor false.
Quirk: with a name_size_file overlaps are counted in whole pixels of the clipped boxes.
Quirk: the reference counts only images with detections when it looks up sizes; here every image of
    a batch counts. Without a context the last image that the bottoms mention ends the batch, which
    is too few when the last images have neither detections nor objects.

Letters: D detections, G ground truth boxes, B classes without the background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.boxes.image_space import AppliedResize, to_image_px
from caffe_ssd.boxes.iou import pairwise_iou, pairwise_iou_px
from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.layers.detection_common import check_num_classes, read_resize, read_sizes
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.layers.run_context import RunContext

NONE = -1
_IMAGE, _LABEL, _SCORE = 0, 1, 2
_DIFFICULT = 7


class DetectionEvaluate(Layer):
    """The layer; it computes on the CPU.

    Args:
        num_classes: the background included.
        background_label_id: the class without detections or ground truth.
        overlap_threshold: least overlap of a true positive.
        evaluate_difficult_gt: treat difficult objects like others.
        sizes: of the test set's images, in order; used over and over. None: overlaps are
            those of the normalised boxes.
        resize: how the images became the network's input; used with `sizes`.

    Attributes:
        next_image: index of the next forward's first image in `sizes`.
    """

    takes_context = True
    can_repeat = False  # it counts images

    def __init__(
        self,
        *,
        num_classes: int,
        background_label_id: int = 0,
        overlap_threshold: float = 0.5,
        evaluate_difficult_gt: bool = True,
        sizes: Sequence[ImageSize] | None = None,
        resize: AppliedResize | None = None,
    ) -> None:
        super().__init__()
        self.classes = [c for c in range(num_classes) if c != background_label_id]
        self.background_label_id = background_label_id
        self.overlap_threshold = overlap_threshold
        self.evaluate_difficult_gt = evaluate_difficult_gt
        self.sizes = sizes
        self.resize = resize
        self.next_image = 0

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        for index, (shape, width) in enumerate(zip(bottoms, (7, 8), strict=True)):
            if len(shape) < 2 or shape[-1] != width or any(axis != 1 for axis in shape[:-2]):
                raise ShapeError(
                    f"bottom {index} must have shape (1, 1, rows, {width}), got {shape}"
                )
        return ((1, 1, len(self.classes) + bottoms[0][-2], 5),)

    @torch.no_grad()
    def forward(
        self, detections: Tensor, label: Tensor, context: RunContext | None = None
    ) -> Tensor:
        self.top_shapes(tuple(detections.shape), tuple(label.shape))
        found, gts = detections.reshape(-1, 7).cpu(), _until_padding(label.reshape(-1, 8).cpu())
        num_rows = int((found[:, _LABEL] != NONE).sum())
        found = found[found[:, _IMAGE] != NONE]
        self._check_labels(found, gts)
        _check_finite(found, gts)
        counted = gts if self.evaluate_difficult_gt else gts[gts[:, _DIFFICULT] == 0]
        header = found.new_full((len(self.classes), 5), NONE)
        header[:, 1] = torch.tensor(self.classes)
        header[:, 2] = (counted[:, _LABEL] == header[:, 1:2]).sum(1)
        rows = self._judge(found, gts)
        images = None if context is None else context.batch_size
        self.next_image += _last_image(found, gts) + 1 if images is None else images
        surplus = rows.new_zeros(num_rows - len(rows), 5)
        return torch.cat([header, rows, surplus])[None, None].to(detections.device)

    def _check_labels(self, found: Tensor, gts: Tensor) -> None:
        for what, rows in (("the detections", found), ("the ground truth", gts)):
            if bool((rows[:, _LABEL].long() == self.background_label_id).any()):
                raise LayerError(
                    f"the background label {self.background_label_id} is among {what}; only labels "
                    "of objects are allowed (see background_label_id)"
                )

    def _judge(self, found: Tensor, gts: Tensor) -> Tensor:
        """Rows (image, label, score, tp, fp) by image and label, then as they were judged."""
        found, gts = (rows[rows[:, _IMAGE].long().argsort(stable=True)] for rows in (found, gts))
        images, sizes = torch.unique_consecutive(found[:, _IMAGE].long(), return_counts=True)
        own = gts[:, _IMAGE].long().contiguous()
        starts, ends = (torch.searchsorted(own, images, right=right) for right in (False, True))
        spans = zip(torch.split(found, sizes.tolist()), starts.tolist(), ends.tolist(), strict=True)
        judged = [
            self._judge_image(part, gts[start:end]) for part, start, end in spans if len(part)
        ]
        return torch.cat(judged) if judged else found.new_zeros(0, 5)

    def _judge_image(self, found: Tensor, gts: Tensor) -> Tensor:
        """The rows of one image."""
        iou = self._overlaps(found, gts)
        found_keys, gt_keys = found[:, :2].long(), gts[:, :2].long()
        same = (found_keys[:, None] == gt_keys).all(2)  # [D, G]
        comparable = same.any(1)
        real = found_keys[:, _LABEL] != NONE
        # Where a class has no ground truth in an image the order is left as it is.
        order = torch.where(comparable, found[:, _SCORE], 0).argsort(descending=True, stable=True)
        order = order[found_keys[order, _LABEL].argsort(stable=True)]
        order = order[real[order]]
        positive, neutral = self._hits(iou.masked_fill(~same, NONE)[order], gts)
        top = torch.cat([found[order, :3], found.new_zeros(len(order), 2)], 1)
        top[:, 3] = positive
        top[:, 4] = ~positive & ~neutral
        return top

    def _hits(self, iou: Tensor, gts: Tensor) -> tuple[Tensor, Tensor]:
        """Which detections, best first, are true positives and which do not count. [D] bool."""
        num_found, num_gts = iou.shape
        if num_gts == 0:
            nothing = torch.zeros(num_found, dtype=torch.bool)
            return nothing, nothing
        best, gt = iou.max(1)  # the first one on ties
        hit = best >= self.overlap_threshold
        neutral = torch.zeros_like(hit)
        if not self.evaluate_difficult_gt:
            neutral = hit & (gts[gt, _DIFFICULT] != 0)
        hit &= ~neutral
        place = torch.arange(num_found)
        first = torch.full((num_gts,), num_found).scatter_reduce(0, gt[hit], place[hit], "amin")
        return hit & (first[gt] == place), neutral

    def _overlaps(self, found: Tensor, gts: Tensor) -> Tensor:
        """Overlap of every detection with every object, of the same image or not. [D, G]."""
        if self.sizes is None:
            return pairwise_iou(found[:, 3:7], gts[:, 3:7])
        (found_px, found_area), (gts_px, gts_area) = (
            self._to_px(rows[:, 3:7], rows[:, _IMAGE].long()) for rows in (found, gts)
        )
        return pairwise_iou_px(found_px, gts_px, found_area, gts_area)

    def _to_px(self, boxes: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        assert self.sizes is not None
        indices = [(self.next_image + i) % len(self.sizes) for i in images.tolist()]
        heights = torch.tensor([self.sizes[i].height for i in indices])
        widths = torch.tensor([self.sizes[i].width for i in indices])
        return to_image_px(boxes, heights, widths, self.resize)


def _check_finite(found: Tensor, gts: Tensor) -> None:
    for what, rows in (("detection", found), ("object", gts)):
        wrong = (~rows.isfinite().all(1)).nonzero()
        if len(wrong):
            shown = ", ".join(f"{value:g}" for value in rows[int(wrong[0])].tolist())
            raise LayerError(
                f"a {what} has a score or box that is not finite: [{shown}]; nothing can be "
                "counted with it"
            )


def _last_image(found: Tensor, gts: Tensor) -> int:
    """The last image that has detections or objects, -1 if there is none."""
    images = torch.cat([found[:, _IMAGE], gts[:, _IMAGE]])
    return int(images.max()) if len(images) else -1


def _until_padding(gts: Tensor) -> Tensor:
    padding = (gts[:, _IMAGE] == NONE).nonzero()
    return gts[: int(padding[0])] if len(padding) else gts


@register_layer("DetectionEvaluate", bottoms=2, has_backward=False)
def _build(spec: LayerSpec) -> DetectionEvaluate:
    param = spec.param.detection_evaluate_param
    if param.overlap_threshold <= 0:
        raise LayerParamError(
            f"overlap_threshold must be positive, got {param.overlap_threshold:g}"
        )
    has_sizes = bool(param.name_size_file)
    layer = DetectionEvaluate(
        num_classes=check_num_classes(param.num_classes if param.HasField("num_classes") else None),
        background_label_id=param.background_label_id,
        overlap_threshold=param.overlap_threshold,
        evaluate_difficult_gt=param.evaluate_difficult_gt,
        sizes=read_sizes(param.name_size_file, "name_size_file") if has_sizes else None,
        resize=read_resize(param.resize_param) if param.HasField("resize_param") else None,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
