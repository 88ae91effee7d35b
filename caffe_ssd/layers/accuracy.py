"""Accuracy: the share of positions whose label is among the best classes.

Spec: caffe-layers.md section G.
Quirk: of equal scores the higher class counts as better.
Quirk: if every label is ignored the accuracy is NaN; a class without labels has accuracy 0.

Shapes: as in `softmax_with_loss`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.loss_common import (
    check_batch,
    check_label_count,
    check_top_k,
    class_labels,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


class Accuracy(Layer):
    """The layer; top 0 is the accuracy, top 1 (if any) the accuracy of each class (K,).

    Args:
        axis: the class axis, not negative.
        top_k: how many best classes count as a hit.
        ignore_label: positions with this label count nothing.
        num_tops: 1 or 2.
    """

    def __init__(
        self, *, axis: int, top_k: int = 1, ignore_label: int | None = None, num_tops: int = 1
    ) -> None:
        super().__init__()
        self.axis = axis
        self.top_k = top_k
        self.ignore_label = ignore_label
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        check_label_count(*bottoms, axis=self.axis)
        num_classes = bottoms[0][self.axis]
        check_top_k(self.top_k, num_classes, "classes")
        return ((), (num_classes,))[: self.num_tops]

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        scores = scores.detach().movedim(self.axis, -1)
        num_classes = scores.shape[-1]
        index, valid = class_labels(labels, (*scores.shape[:-1], 1), num_classes, self.ignore_label)
        own = scores.gather(-1, index)
        classes = torch.arange(num_classes, device=scores.device)
        better = (scores > own) | ((scores == own) & (classes > index))
        hit = better.sum(-1, keepdim=True) < self.top_k
        counted = torch.ones_like(hit) if valid is None else valid
        hit &= counted
        accuracy = hit.sum().to(scores.dtype) / counted.sum()
        if self.num_tops == 1:
            return accuracy
        hits = _per_class(index, hit, num_classes)
        total = _per_class(index, counted, num_classes)
        return accuracy, (hits / total.clamp(min=1)).to(scores.dtype)


def _per_class(index: Tensor, flags: Tensor, num_classes: int) -> Tensor:
    return index.new_zeros(num_classes).index_add_(0, index.flatten(), flags.flatten().long())


@register_layer("Accuracy", bottoms=2, tops=range(1, 3), has_backward=False)
def _build(spec: LayerSpec) -> Accuracy:
    param = spec.param.accuracy_param
    layer = Accuracy(
        axis=canonical_axis(param.axis, len(spec.bottoms[0])),
        top_k=param.top_k,
        ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
        num_tops=spec.num_tops,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
