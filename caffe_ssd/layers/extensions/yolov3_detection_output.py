"""Yolov3DetectionOutput: boxes of all maps of a YOLOv3 net that do not cover each other.

Spec: other-forks.md section 15.1. From eric612.
Quirk: a box is a candidate once for every class that is likely enough.
Quirk: the fork suppresses the boxes of all images of a batch together; here each image has its own.

Shapes: bottoms (N, B (5 + C), H, W) with B boxes a cell and C classes; with gaussian_box 9 + C.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.detection_output import ROW_WIDTH
from caffe_ssd.layers.extensions.yolo_boxes import (
    check_maps,
    decode_boxes,
    read_anchors,
    split_boxes,
    suppressed_rows,
)
from caffe_ssd.layers.registry import AT_LEAST_ONE, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import Yolov3DetectionOutputParameter

# x, y, width, height, objectness; with gaussian_box each of the first four has a spread behind it.
NUM_PLAIN, NUM_GAUSSIAN = 5, 9


class Yolov3DetectionOutput(Layer):
    """The layer.

    Args:
        num_classes: C.
        anchors: for each bottom, the widths and heights in pixels of the B boxes of a cell.
        strides: pixels per cell of each bottom.
        confidence_threshold: scores must exceed it.
        nms_threshold: overlap of two boxes at which the worse one goes.
        gaussian: predictions come with their spreads, which lower the score.
    """

    can_repeat = False  # nobody knows the shape of its top beforehand

    def __init__(
        self,
        *,
        num_classes: int,
        anchors: Sequence[Sequence[tuple[float, float]]],
        strides: Sequence[int],
        confidence_threshold: float = 0.01,
        nms_threshold: float = 0.45,
        gaussian: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.anchors = anchors
        self.strides = strides
        self.confidence_threshold = confidence_threshold
        self.nms_threshold = nms_threshold
        self.gaussian = gaussian

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        first = NUM_GAUSSIAN if self.gaussian else NUM_PLAIN
        check_maps(bottoms, len(self.anchors[0]), first + self.num_classes)
        return ((1, 1, 1, ROW_WIDTH),)

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> Tensor:
        found = [self._candidates(i, bottom) for i, bottom in enumerate(bottoms)]
        image, label, score, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
        return suppressed_rows(
            image,
            label,
            score,
            boxes,
            threshold=self.nms_threshold,
            num_images=len(bottoms[0]),
        )

    def _candidates(self, i: int, bottom: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, labels, scores and boxes of one map, row by row, column by column."""
        anchors = torch.tensor(self.anchors[i], dtype=torch.float32, device=bottom.device)
        height, width = bottom.shape[2:]
        entries = split_boxes(bottom.float(), len(anchors))
        size = torch.tensor([width, height], device=bottom.device) * self.strides[i]
        location = entries[..., [0, 2, 4, 6]] if self.gaussian else entries[..., :4]
        boxes = decode_boxes(location, anchors / size)
        first = NUM_GAUSSIAN if self.gaussian else NUM_PLAIN
        likely = torch.sigmoid(entries[..., first - 1])
        if self.gaussian:
            spreads = torch.sigmoid(entries[..., [1, 3, 5, 7]]).sum(-1)
            likely = likely * (4 - spreads) / 4
        scores = torch.sigmoid(entries[..., first:]) * likely[..., None]
        scores, boxes = (each.permute(0, 2, 3, 1, 4) for each in (scores, boxes))
        chosen = scores > torch.tensor(self.confidence_threshold, dtype=torch.float32)
        image, row, column, block, label = chosen.nonzero(as_tuple=True)
        return image, label + 1, scores[chosen], boxes[image, row, column, block]


@register_layer("Yolov3DetectionOutput", bottoms=AT_LEAST_ONE, has_backward=False)
def _build(spec: LayerSpec) -> Yolov3DetectionOutput:
    param = spec.param.yolov3_detection_output_param
    layer = Yolov3DetectionOutput(
        num_classes=_num_classes(param),
        anchors=_anchors(param, len(spec.bottoms)),
        strides=_strides(param, len(spec.bottoms)),
        confidence_threshold=param.confidence_threshold,
        nms_threshold=param.nms_threshold,
        gaussian=param.gaussian_box,
    )
    layer.top_shapes(*spec.bottoms)
    return layer


def _num_classes(param: Yolov3DetectionOutputParameter) -> int:
    if param.num_classes < 1 or param.num_box < 1:
        raise LayerParamError(
            f"num_classes and num_box must be positive, got {param.num_classes} and {param.num_box}"
        )
    return param.num_classes


def _anchors(
    param: Yolov3DetectionOutputParameter, num_maps: int
) -> list[list[tuple[float, float]]]:
    """The boxes of each map's cells."""
    sizes = read_anchors(param.biases)
    if param.mask_group_num != num_maps:
        raise LayerParamError(
            f"mask_group_num must be the number of bottoms, {num_maps}, got {param.mask_group_num}"
        )
    share = len(param.mask) // num_maps
    if share < param.num_box:
        raise LayerParamError(
            f"mask must name {param.num_box} anchors for each of {num_maps} bottoms, "
            f"got {len(param.mask)}"
        )
    if max(param.mask) >= len(sizes):
        raise LayerParamError(f"mask names anchor {max(param.mask)}, biases hold {len(sizes)}")
    groups = [param.mask[t * share : t * share + param.num_box] for t in range(num_maps)]
    return [[sizes[number] for number in group] for group in groups]


def _strides(param: Yolov3DetectionOutputParameter, num_maps: int) -> tuple[int, ...]:
    strides = tuple(param.anchors_scale)
    if len(strides) < num_maps or min(strides) < 1:
        raise LayerParamError(
            f"anchors_scale must give a positive number for each of {num_maps} bottoms, "
            f"got {list(strides)}"
        )
    return strides
