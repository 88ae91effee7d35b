"""DetectionOutput of RefineDet: priors are moved by a first prediction, empty ones set aside.

Spec: other-forks.md section 13.1. From sfzhang15; bottoms are loc, conf, priors, arm_conf, arm_loc.
With four bottoms the fourth is arm_conf if it has 2 axes; with 4 axes it is the original's image.
Quirk: a prior that is set aside has score 1 in class 0, whatever the background is, and its zeros
in the other classes are candidates if no threshold keeps them out.
Quirk: both predictions are decoded by the same prior's variances.

Letters: N images, P priors, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.boxes.coding import check_priors, decode
from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.detection_common import check_arm_shapes
from caffe_ssd.layers.detection_output import DetectionOutput, Settings, read_settings
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer

IMAGE_RANK = 4


class RefineDetOutput(DetectionOutput):
    """The layer.

    Args:
        settings: see `DetectionOutput`.
        objectness_score: priors whose first prediction is below it are set aside.
    """

    def __init__(self, settings: Settings, *, objectness_score: float = 0.01) -> None:
        super().__init__(**settings)
        self.objectness_score = objectness_score

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        tops = super().top_shapes(*bottoms)
        check_arm_shapes(bottoms[0], *bottoms[3:])
        return tops

    def refined(
        self, priors: Tensor, variances: Tensor | None, scores: Tensor, *more: Tensor
    ) -> tuple[Tensor, Tensor]:
        arm_conf, *arm_loc = more
        objectness = arm_conf.to(scores.dtype).reshape(*scores.shape[:2], 2)[..., 1]
        empty = objectness < torch.tensor(self.objectness_score, dtype=torch.float32)
        background = F.one_hot(torch.zeros_like(empty, dtype=torch.int64), scores.shape[2])
        scores = torch.where(empty[..., None], background.to(scores.dtype), scores)
        if not arm_loc:
            return priors, scores
        codes = arm_loc[0].to(priors.dtype).reshape(*scores.shape[:2], 4)
        anchors = decode(codes, priors, variances, self.code_type)
        check_priors(anchors.flatten(0, 1), None, self.code_type)
        return anchors, scores

    @property
    def steps(self) -> str:
        own = (
            "priors are decoded by arm_loc first; where arm_conf's second class is below "
            f"{self.objectness_score:g} class 0 gets score 1 and all others 0"
        )
        return "; ".join(filter(None, (own, super().steps)))


@register_layer(
    "DetectionOutput",
    bottoms=range(4, 6),
    has_backward=False,
    when=lambda param: len(param.bottom) > 3,
    told_by="arm_conf, or arm_conf and arm_loc, as further bottoms",
)
def _build(spec: LayerSpec) -> DetectionOutput:
    settings = read_settings(spec)
    if len(spec.bottoms) == 4 and len(spec.bottoms[3]) == IMAGE_RANK:
        layer = DetectionOutput(**settings)
    else:
        if not settings["share_location"]:
            raise LayerParamError("arm_conf and arm_loc need share_location: true")
        score = spec.param.detection_output_param.objectness_score
        layer = RefineDetOutput(settings, objectness_score=score)
    layer.top_shapes(*spec.bottoms)
    return layer
