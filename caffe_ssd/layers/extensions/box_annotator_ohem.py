"""BoxAnnotatorOHEM: leave the labels of the hardest places of each image, for R-FCN's mining.

Spec: other-forks.md section 10.

Shapes: R places in the batch, H x W each; box weights have K numbers a place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.boxes.ranking import rank_in_groups
from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class BoxAnnotatorOHEM(Layer):
    """The layer; bottoms are places, losses, labels and box weights.

    Args:
        roi_per_img: how many places of an image keep their labels.
        ignore_label: what the others get.
    """

    def __init__(self, *, roi_per_img: int, ignore_label: int = -1) -> None:
        super().__init__()
        self.roi_per_img = roi_per_img
        self.ignore_label = ignore_label

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_rank(bottoms[0], 4)
        images, _, height, width = bottoms[0]
        for i, (shape, channels) in enumerate(zip(bottoms, (5, 1, 1, None), strict=True)):
            wanted = (images, shape[1] if channels is None else channels, height, width)
            if shape != wanted:
                raise ShapeError(f"bottom {i} must have shape {list(wanted)}, got {list(shape)}")
        return bottoms[2:]

    @torch.no_grad()
    def forward(
        self, rois: Tensor, losses: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        images, group = torch.unique(rois[:, 0].flatten().trunc(), return_inverse=True)
        order, rank = rank_in_groups(losses.flatten(), group, len(images))
        kept = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
        kept.view(-1)[order[rank < self.roi_per_img]] = True
        return labels.where(kept, self.ignore_label), weights.where(kept, 0)


@register_layer("BoxAnnotatorOHEM", bottoms=4, tops=2, has_backward=False)
def _build(spec: LayerSpec) -> BoxAnnotatorOHEM:
    param = spec.param.box_annotator_ohem_param
    if param.roi_per_img < 1:
        raise LayerParamError("roi_per_img is missing or 0; give at least 1")
    layer = BoxAnnotatorOHEM(roi_per_img=param.roi_per_img, ignore_label=param.ignore_label)
    layer.top_shapes(*spec.bottoms)
    return layer
