"""MultiBoxLoss of RefineDet: matches anchors, which a first prediction made of the priors.

Spec: other-forks.md section 13.2. From sfzhang15; bottoms are loc, conf, priors, ground truth,
arm_conf and perhaps arm_loc.
Quirk: priors that the first prediction takes for empty are not mined; positives stay whatever it
says.
Quirk: HARD_EXAMPLE ranks by location losses against the priors, not the anchors.

Letters: N images, P priors.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.detection_common import check_arm_shapes
from caffe_ssd.layers.multibox_examples import Priors
from caffe_ssd.layers.multibox_loss import MultiBoxLoss, Settings, read_settings
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer


class RefineDetLoss(MultiBoxLoss):
    """The layer.

    Args:
        settings: see `MultiBoxLoss`.
        objectness_score: least score of the first prediction for a prior to be mined.
    """

    def __init__(self, settings: Settings, *, objectness_score: float = 0.01) -> None:
        super().__init__(**settings)
        self.objectness_score = objectness_score

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        tops = super().top_shapes(*bottoms)
        check_arm_shapes(bottoms[0], *bottoms[4:])
        return tops

    def first_step(
        self, prior: Priors, num_images: int, *arm: Tensor
    ) -> tuple[Priors, Tensor | None]:
        arm_conf, *arm_loc = (bottom.to(prior.boxes.dtype) for bottom in arm)
        objectness = arm_conf.reshape(num_images, -1, 2)[..., 1]
        allowed = objectness >= torch.tensor(self.objectness_score, dtype=torch.float32)
        if not arm_loc:
            return prior, allowed
        anchors = prior.decode(arm_loc[0].reshape(num_images, -1, 4))
        return replace(prior, boxes=anchors), allowed


@register_layer(
    "MultiBoxLoss",
    bottoms=range(5, 7),
    is_loss=True,
    not_forced=(2, 3, 4, 5),
    when=lambda param: len(param.bottom) > 4,
    told_by="arm_conf, or arm_conf and arm_loc, as further bottoms",
)
def _build(spec: LayerSpec) -> RefineDetLoss:
    settings = read_settings(spec)
    if not settings["share_location"]:
        raise LayerParamError("arm_conf and arm_loc need share_location: true")
    score = spec.param.multibox_loss_param.objectness_score
    layer = RefineDetLoss(settings, objectness_score=score)
    layer.top_shapes(*spec.bottoms)
    return layer
