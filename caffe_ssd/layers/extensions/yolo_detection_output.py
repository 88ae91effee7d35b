"""YoloDetectionOutput: boxes of a YOLOv2 net that do not cover each other.

Spec: other-forks.md section 15.2. From eric612; `side` and `label_map_file` change nothing.

Shapes: bottoms (N, B (5 + C), S, S) with B boxes a cell and C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.detection_output import ROW_WIDTH
from caffe_ssd.layers.extensions.yolo_boxes import (
    check_maps,
    decode_boxes,
    read_anchors,
    split_boxes,
    suppressed_rows,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer

NUM_COORDS = 4


class YoloDetectionOutput(Layer):
    """The layer.

    Args:
        num_classes: C.
        anchors: widths and heights of the B boxes of a cell, in cells.
        confidence_threshold: least score.
        nms_threshold: overlap of two boxes at which the worse one goes.
    """

    can_repeat = False  # nobody knows the shape of its top beforehand

    def __init__(
        self,
        *,
        num_classes: int,
        anchors: Sequence[tuple[float, float]],
        confidence_threshold: float = 0.01,
        nms_threshold: float = 0.45,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.anchors = anchors
        self.confidence_threshold = confidence_threshold
        self.nms_threshold = nms_threshold

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_maps(bottoms, len(self.anchors), NUM_COORDS + 1 + self.num_classes)
        for i, shape in enumerate(bottoms):
            if shape[2] != shape[3]:
                raise ShapeError(f"bottom {i} must be a square map, got {list(shape)}")
        return ((1, 1, 1, ROW_WIDTH),)

    @torch.no_grad()
    def forward(self, *bottoms: Tensor) -> Tensor:
        found = [self._candidates(bottom) for bottom in bottoms]
        image, label, score, boxes = (torch.cat(parts) for parts in zip(*found, strict=True))
        return suppressed_rows(
            image,
            label,
            score,
            boxes,
            threshold=self.nms_threshold,
            num_images=len(bottoms[0]),
        )

    def _candidates(self, bottom: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, labels, scores and boxes of one map, row by row, column by column."""
        anchors = torch.tensor(self.anchors, dtype=torch.float32, device=bottom.device)
        entries = split_boxes(bottom.float(), len(anchors))
        boxes = decode_boxes(entries[..., :NUM_COORDS], anchors / bottom.shape[3])
        share, label = entries[..., NUM_COORDS + 1 :].softmax(-1).max(-1)
        score = torch.sigmoid(entries[..., NUM_COORDS]) * share
        score, label = (each.permute(0, 2, 3, 1) for each in (score, label))
        chosen = score >= torch.tensor(self.confidence_threshold, dtype=torch.float32)
        image = chosen.nonzero()[:, 0]
        return image, label[chosen] + 1, score[chosen], boxes.permute(0, 2, 3, 1, 4)[chosen]


@register_layer("YoloDetectionOutput", bottoms=range(1, 3), has_backward=False)
def _build(spec: LayerSpec) -> YoloDetectionOutput:
    param = spec.param.yolo_detection_output_param
    if param.coords != NUM_COORDS:
        raise LayerParamError(f"coords must be {NUM_COORDS}, got {param.coords}")
    anchors = read_anchors(param.biases)
    if param.num_classes < 1 or len(anchors) != param.num_box:
        raise LayerParamError(
            f"needs num_classes above 0 and num_box ({param.num_box}) pairs of biases, "
            f"got {param.num_classes} and {len(anchors)}"
        )
    layer = YoloDetectionOutput(
        num_classes=param.num_classes,
        anchors=anchors,
        confidence_threshold=param.confidence_threshold,
        nms_threshold=param.nms_threshold,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
