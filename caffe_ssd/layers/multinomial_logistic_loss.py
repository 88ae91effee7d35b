"""MultinomialLogisticLoss: minus the mean logarithm of the labels' probabilities.

Spec: caffe-layers.md section G.
Quirk: a probability counts as at least 1e-20, and below that the gradient is that of 1e-20.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.loss_common import (
    check_batch,
    class_labels,
    floored_log,
    one_label_per_item,
)
from caffe_ssd.layers.registry import EVERY_BOTTOM, Layer, LayerSpec, Shape, register_layer


class MultinomialLogisticLoss(Layer):
    """The layer; bottoms are probabilities (N, ...) and labels (N)."""

    backward_reads = EVERY_BOTTOM

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        one_label_per_item(bottoms[1])
        return ((),)

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        probabilities = probabilities.flatten(1)
        num_items, num_classes = probabilities.shape
        index, _ = class_labels(labels, (num_items, 1), num_classes)
        loss = -floored_log(probabilities.gather(1, index)).sum() / num_items
        return forbid_gradient(loss, labels, "labels")


@register_layer("MultinomialLogisticLoss", bottoms=2, is_loss=True, not_forced=(1,))
def _build(spec: LayerSpec) -> MultinomialLogisticLoss:
    layer = MultinomialLogisticLoss()
    layer.top_shapes(*spec.bottoms)
    return layer
