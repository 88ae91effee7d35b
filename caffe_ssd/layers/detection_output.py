"""DetectionOutput: decodes the predictions and keeps the best boxes that do not cover each other.

Spec: ssd-layers.md section 3; saving: ssd-data.md section 7.
Quirk: boxes are not clipped; an image's rows are ordered by class, then by score.
Quirk: when nothing is found in the whole batch there is one row (image, -1, ..., -1) per image.
Quirk: without a background class (-1) the reference's CPU build aborts; here it works.

Letters: N images, P priors, C classes, L location classes (1 or C), D detections.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.boxes.detection import LOWEST_SCORE, Coded, DetectionRule, detect
from caffe_ssd.errors import CaffeError, LayerParamError
from caffe_ssd.evaluate.result_writer import ResultWriter
from caffe_ssd.layers.detection_common import (
    check_head_shapes,
    check_num_classes,
    read_resize,
    read_sizes,
    split_priors,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import (
    DetectionOutputParameter,
    NonMaximumSuppressionParameter,
    SaveOutputParameter,
)
from caffe_ssd.proto.label_map import LabelMap, read_label_map

ROW_WIDTH = 7


def detection_rows(detections: Tensor, num_images: int) -> Tensor:
    """The top blob for a list of detections: (1, 1, D, 7), never empty.

    Args:
        detections: [D, 7].
        num_images: N, the number of rows of -1 that stand for D = 0.
    """
    if len(detections) == 0:
        detections = detections.new_full((num_images, ROW_WIDTH), -1)
        detections[:, 0] = torch.arange(num_images, device=detections.device)
    return detections[None, None]


class Settings(TypedDict):
    """The arguments of `DetectionOutput`, which see."""

    num_classes: int
    rule: DetectionRule
    share_location: bool
    code_type: CodeType
    variance_encoded: bool
    writer: ResultWriter | None


class DetectionOutput(Layer):
    """The layer.

    Args:
        num_classes: C, the background included.
        rule: what makes a detection.
        share_location: L is 1 rather than C.
        code_type: of the location predictions.
        variance_encoded: the predictions already contain the variances.
        writer: saves what is found; None saves nothing.
    """

    can_repeat = False  # it saves what it finds

    def __init__(
        self,
        *,
        num_classes: int,
        rule: DetectionRule,
        share_location: bool = True,
        code_type: CodeType = CodeType.CORNER,
        variance_encoded: bool = False,
        writer: ResultWriter | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.rule = rule
        self.num_loc_classes = 1 if share_location else num_classes
        self.code_type = code_type
        self.variance_encoded = variance_encoded
        self.writer = writer

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_head_shapes(
            *bottoms[:3], num_classes=self.num_classes, num_loc_classes=self.num_loc_classes
        )
        return ((1, 1, 1, ROW_WIDTH),)

    @torch.no_grad()
    def forward(self, loc: Tensor, conf: Tensor, priors: Tensor, *more: Tensor) -> Tensor:
        boxes, variances = split_priors(priors)
        num_images, num_priors = len(loc), len(boxes)
        divisors = None if self.variance_encoded else variances
        scores = conf.to(boxes.dtype).reshape(num_images, num_priors, self.num_classes)
        refined, scores = self.refined(boxes, divisors, scores, *more)
        coded = Coded(
            loc=loc.to(boxes.dtype).reshape(num_images, num_priors, self.num_loc_classes, 4),
            given_priors=boxes,
            priors=refined,
            variances=divisors,
            code_type=self.code_type,
        )
        detections = detect(scores, coded, self.rule)
        if self.writer is not None:
            self.writer.add(detections.float().cpu().numpy(), num_images)
        return detection_rows(detections, num_images)

    def refined(
        self, priors: Tensor, variances: Tensor | None, scores: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The priors and scores that detection works with: here those it was given.

        Args:
            priors: [P, 4].
            variances: [P, 4]; None if the codes already contain them.
            scores: [N, P, C].
            more: bottoms from the fourth on.

        Returns:
            Priors, [P, 4] or [N, P, 4], and scores.
        """
        return priors, scores

    @property
    def steps(self) -> str:
        """What it does beside decoding, thresholds and suppression; empty for nothing."""
        return "clip boxes to the image before NMS" if self.rule.clip else ""


@register_layer("DetectionOutput", bottoms=range(3, 5), has_backward=False)
def _build(spec: LayerSpec) -> DetectionOutput:
    layer = DetectionOutput(**read_settings(spec))
    layer.top_shapes(*spec.bottoms)
    return layer


def read_settings(spec: LayerSpec) -> Settings:
    """The arguments of `DetectionOutput` that a message stands for.

    Raises:
        LayerParamError: they make no sense.
    """
    param = spec.param.detection_output_param
    if param.visualize:
        raise LayerParamError(
            "visualize is not supported; save the detections (save_output_param) and draw them"
        )
    return Settings(
        num_classes=check_num_classes(param.num_classes if param.HasField("num_classes") else None),
        rule=_read_rule(param),
        share_location=param.share_location,
        code_type=CodeType(param.code_type),
        variance_encoded=param.variance_encoded_in_target,
        writer=_read_writer(param.save_output_param, param.background_label_id),
    )


def _read_rule(param: DetectionOutputParameter) -> DetectionRule:
    nms: NonMaximumSuppressionParameter = param.nms_param
    if nms.nms_threshold < 0:
        raise LayerParamError(f"nms_threshold must not be negative, got {nms.nms_threshold:g}")
    if not 0 < nms.eta <= 1:
        raise LayerParamError(f"eta must be above 0 and at most 1, got {nms.eta:g}")
    threshold = param.confidence_threshold if param.HasField("confidence_threshold") else None
    return DetectionRule(
        background_label_id=param.background_label_id,
        confidence_threshold=LOWEST_SCORE if threshold is None else threshold,
        nms_threshold=nms.nms_threshold,
        top_k=nms.top_k if nms.HasField("top_k") else -1,
        eta=nms.eta,
        keep_top_k=param.keep_top_k,
        clip=param.clip,
    )


def _read_writer(param: SaveOutputParameter, background_label_id: int) -> ResultWriter | None:
    """What saves the detections; None unless a folder and both files are given."""
    label_map = _read_labels(param.label_map_file) if param.label_map_file else None
    sizes = None
    count = param.num_test_image
    if param.name_size_file:
        sizes = read_sizes(param.name_size_file, "save_output_param.name_size_file")
        if not param.HasField("num_test_image"):
            count = len(sizes)
        if not 0 < count <= len(sizes):
            raise LayerParamError(
                f"num_test_image must be from 1 to {len(sizes)}, the number of lines of "
                f"{param.name_size_file}, got {count}"
            )
    resize = read_resize(param.resize_param) if param.HasField("resize_param") else None
    if label_map is None or sizes is None or not param.output_directory:
        return None
    return ResultWriter(
        directory=param.output_directory,
        prefix=param.output_name_prefix,
        output_format=param.output_format,
        names=label_map.label_to_name,
        background_label_id=background_label_id,
        sizes=sizes,
        num_test_image=count,
        resize=resize,
    )


def _read_labels(path: str) -> LabelMap:
    try:
        return read_label_map(path, unique_labels=True)
    except CaffeError as error:
        raise LayerParamError(
            f"save_output_param.label_map_file: {error}; create_label_map makes this file from a "
            "list of class names"
        ) from error
