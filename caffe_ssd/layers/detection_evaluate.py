"""DetectionEvaluate: marks every detection as a true or false positive.

Spec: ssd-layers.md section 4.
Quirk: ground truth ends at the first row of -1 (the loss skips such rows).
Quirk: a detection that best overlaps an ignored difficult object is neither true nor false.
Quirk: with a name_size_file overlaps are counted in whole pixels of the clipped boxes.
Quirk: the reference counts only images with detections when it looks up sizes; here every image of
    a batch counts. Without a context the last image that the bottoms mention ends the batch, which
    is too few when the last images have neither detections nor objects.

It computes in NumPy, for all images of a batch at once: a detection is compared with the objects of
its image and class alone, and each such pair is an element.

Letters: D detections, G ground truth boxes, K pairs, B classes without the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.image_space import AppliedResize, to_image_px
from caffe_ssd.boxes.iou import pairwise_iou_px
from caffe_ssd.boxes.nms import Boxes, Indices, Marks, overlap, with_area
from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.layers.detection_common import check_num_classes, read_resize, read_sizes
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.layers.run_context import RunContext

NONE = -1
_IMAGE, _LABEL, _SCORE = 0, 1, 2
_BOX = slice(3, 7)
_DIFFICULT = 7
_BEYOND = 2**30  # numbers of images and labels stay below it


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
        self._sides = np.array([(size.height, size.width) for size in sizes or ()], np.int64)

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
        found = detections.detach().reshape(-1, 7).cpu().numpy()
        gts = _until_padding(label.detach().reshape(-1, 8).cpu().numpy())
        num_rows = int(np.count_nonzero(found[:, _LABEL] != NONE))
        found = found[found[:, _IMAGE] != NONE]
        _check_finite(found, gts)
        self._check_labels(found, gts)
        rows = self._judge(found, gts)
        images = None if context is None else context.batch_size
        self.next_image += _last_image(found, gts) + 1 if images is None else images
        surplus = np.zeros((num_rows - len(rows), 5), rows.dtype)
        top = np.concatenate([self._header(gts, rows.dtype), rows, surplus])
        return torch.from_numpy(top)[None, None].to(detections.device)

    def _check_labels(self, found: Boxes, gts: Boxes) -> None:
        for what, rows in (("the detections", found), ("the ground truth", gts)):
            if (rows[:, _LABEL].astype(np.int64) == self.background_label_id).any():
                raise LayerError(
                    f"the background label {self.background_label_id} is among {what}; only labels "
                    "of objects are allowed (see background_label_id)"
                )

    def _header(self, gts: Boxes, dtype: np.dtype[Any]) -> Boxes:
        """A row (-1, label, number of objects, -1, -1) for each class."""
        counted = gts if self.evaluate_difficult_gt else gts[gts[:, _DIFFICULT] == 0]
        header = np.full((len(self.classes), 5), NONE, dtype)
        header[:, 1] = self.classes
        header[:, 2] = (counted[:, _LABEL] == header[:, 1:2]).sum(1)
        return header

    @np.errstate(over="ignore", invalid="ignore")
    def _judge(self, found: Boxes, gts: Boxes) -> Boxes:
        """Rows (image, label, score, tp, fp) by image and label, then as they were judged."""
        key, gt_key = _keys(found, gts)
        gt_order = np.argsort(gt_key, kind="stable")
        gts, gt_key = gts[gt_order], gt_key[gt_order]
        first = np.searchsorted(gt_key, key)
        count = np.searchsorted(gt_key, key, "right") - first
        # Where a class has no ground truth in an image the order is left as it is.
        order = np.lexsort((np.where(count, -found[:, _SCORE], 0), key))
        order = order[found[order, _LABEL].astype(np.int64) != NONE]
        found, first, count = found[order], first[order], count[order]
        own = np.repeat(np.arange(len(found)), count)  # the detection of each pair
        gt = np.arange(len(own)) - np.repeat(np.cumsum(count) - count - first, count)
        hits = self._hits(self._overlaps(found[own], gts[gt]), own)
        top = np.zeros((len(found), 5), found.dtype)
        top[:, :3] = found[:, :3]
        top[:, 3], neutral = self._verdicts(own[hits], gt[hits], gts, len(found))
        top[:, 4] = (top[:, 3] == 0) & ~neutral
        return top

    def _hits(self, iou: NDArray[Any], own: Indices) -> Indices:
        """Which pairs are a detection and the object it overlaps best, the first one on ties.

        Args:
            iou: [K].
            own: [K], the pairs' detections, ascending.

        Returns:
            Indices of such pairs whose overlap is enough, ascending.
        """
        if not len(own):
            return own
        first = _firsts(own)
        best = np.maximum.reduceat(iou, first.nonzero()[0])[np.cumsum(first) - 1]
        hits: Indices = ((iou == best) & (iou >= self.overlap_threshold)).nonzero()[0]
        return hits[_firsts(own[hits])]

    def _verdicts(
        self, hit: Indices, gt: Indices, gts: Boxes, num_found: int
    ) -> tuple[Marks, Marks]:
        """Which detections are true positives and which do not count, [D] each.

        Args:
            hit: detections that hit an object, the better ones first.
            gt: those objects.
            gts: [G, 8].
            num_found: D.
        """
        positive, neutral = np.zeros((2, num_found), np.bool_)
        if not self.evaluate_difficult_gt:
            difficult = gts[gt, _DIFFICULT] != 0
            neutral[hit[difficult]] = True
            hit, gt = hit[~difficult], gt[~difficult]
        _, first = np.unique(gt, return_index=True)
        positive[hit[first]] = True
        return positive, neutral

    def _overlaps(self, found: Boxes, gts: Boxes) -> NDArray[Any]:
        """Overlaps of detections with objects of their images, one by one; [K] each."""
        if self.sizes is None:
            overlaps: NDArray[Any] = overlap(with_area(found[:, _BOX]), with_area(gts[:, _BOX]))
            return overlaps
        image = found[:, _IMAGE].astype(np.int64) + self.next_image
        sides = torch.from_numpy(self._sides[image % len(self._sides)].repeat(2, 0))
        both = torch.from_numpy(np.stack([found[:, _BOX], gts[:, _BOX]], 1).reshape(-1, 4))
        boxes_px, areas = to_image_px(both, sides[:, 0], sides[:, 1], self.resize)
        boxes_px, areas = boxes_px.reshape(-1, 2, 1, 4), areas.reshape(-1, 2, 1)
        iou = pairwise_iou_px(boxes_px[:, 0], boxes_px[:, 1], areas[:, 0], areas[:, 1])
        return iou.reshape(-1).numpy()


def _firsts(x: Indices) -> Marks:
    """Where another number begins, [K] -> [K]."""
    first = np.ones(len(x), np.bool_)
    np.not_equal(x[1:], x[:-1], out=first[1:])
    return first


def _keys(found: Boxes, gts: Boxes) -> tuple[Indices, Indices]:
    """A number for image and label of each row, ordered as they are.

    Raises:
        LayerError: there is no such number, as one is beyond all reason.
    """
    columns = np.concatenate([found[:, :2], gts[:, :2]])
    if (np.abs(columns) >= _BEYOND).any():
        raise LayerError(f"a number of an image or label is {_BEYOND:g} or more; rows are damaged")
    image, label = columns.astype(np.int64).T
    key = image * (2 * _BEYOND) + label
    return key[: len(found)], key[len(found) :]


def _check_finite(found: Boxes, gts: Boxes) -> None:
    for what, rows in (("detection", found), ("object", gts)):
        if np.isfinite(rows).all():
            continue
        wrong = rows[np.flatnonzero(~np.isfinite(rows).all(1))[0]]
        shown = ", ".join(f"{value:g}" for value in wrong)
        raise LayerError(
            f"a {what} has a score or box that is not finite: [{shown}]; nothing can be "
            "counted with it"
        )


def _last_image(found: Boxes, gts: Boxes) -> int:
    """The last image that has detections or objects, -1 if there is none."""
    return int(max(found[:, _IMAGE].max(initial=-1), gts[:, _IMAGE].max(initial=-1)))


def _until_padding(gts: Boxes) -> Boxes:
    padding = np.flatnonzero(gts[:, _IMAGE] == NONE)
    return gts[: padding[0]] if len(padding) else gts


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
