"""HingeLoss: how far scores fall short of a margin of 1 on the right side of 0.

Spec: caffe-layers.md section G.
Quirk: forward keeps the shortfalls in its bottom's diff, where they stay unless the layer runs
    backward; see `left_in_diffs`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.loss_common import check_batch, class_labels, one_label_per_item
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import HingeLossParameter


def shortfalls(scores: Tensor, labels: Tensor) -> Tensor:
    """What each score lacks to its margin, at least 0; shaped like the scores.

    Args:
        scores: (N, ...), flattened to classes per item; the label's should be above 1, the others
            below -1.
        labels: one per item, floats cut toward zero.
    """
    flat = scores.flatten(1)
    index, _ = class_labels(labels, (flat.shape[0], 1), flat.shape[1])
    sign = (-flat.new_ones(flat.shape)).scatter_(1, index, 1.0)
    return (1 - sign * flat).relu().reshape(scores.shape)


def hinge_loss(scores: Tensor, labels: Tensor, *, squared: bool) -> Tensor:
    """The mean over items of the summed (or squared) shortfalls, a scalar.

    Args:
        scores: see `shortfalls`.
        labels: likewise.
        squared: the L2 norm.
    """
    shortfall = shortfalls(scores, labels)
    total = shortfall.square().sum() if squared else shortfall.sum()
    return total / scores.shape[0]


class HingeLoss(Layer):
    """The layer.

    Args:
        squared: see `hinge_loss`.
    """

    def __init__(self, *, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        one_label_per_item(bottoms[1])
        return ((),)

    def left_in_diffs(self, *bottoms: Tensor) -> Mapping[int, Tensor]:
        return {0: shortfalls(*bottoms)}

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        loss = hinge_loss(scores, labels, squared=self.squared)
        return forbid_gradient(loss, labels, "labels")


@register_layer("HingeLoss", bottoms=2, is_loss=True, not_forced=(1,))
def _build(spec: LayerSpec) -> HingeLoss:
    layer = HingeLoss(squared=spec.param.hinge_loss_param.norm == HingeLossParameter.L2)
    layer.top_shapes(*spec.bottoms)
    return layer
