"""ContrastiveLoss: pull similar pairs of features together and push others a margin apart.

Spec: caffe-layers.md section G.
Quirk: the gradient of a dissimilar pair divides by distance + 1e-4 rather than by the distance.
Quirk: legacy_version compares the margin with the squared distance.

Shapes: N pairs, C features.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.loss_common import check_batch, one_label_per_item
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer

# Keeps the gradient finite where two features coincide.
DISTANCE_EPS = 1e-4


class _Contrastive(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, difference: Tensor, similar: Tensor, margin: float, legacy: bool
    ) -> Tensor:
        squared = difference.square().sum(1)
        distance = squared.sqrt()
        if legacy:
            apart = (margin - squared).clamp(min=0)
            slope = -(apart > 0).to(squared.dtype)
        else:
            short = (margin - distance).clamp(min=0)
            apart = short.square()
            slope = -short / (distance + DISTANCE_EPS)
        slope = torch.where(similar, 1, slope) / len(squared)
        ctx.save_for_backward(slope[:, None] * difference)
        return torch.where(similar, squared, apart).sum() / (2 * len(squared))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grads[0] * gradient, None, None, None


def contrastive_loss(
    first: Tensor, second: Tensor, similar: Tensor, *, margin: float, legacy: bool
) -> Tensor:
    """Half the mean loss of the pairs, a scalar.

    Args:
        first, second: (N, C).
        similar: (N,), boolean.
        margin: distance that dissimilar pairs should have.
        legacy: see the module.
    """
    loss: Tensor = _Contrastive.apply(  # type: ignore[no-untyped-call]
        first - second, similar, margin, legacy
    )
    return loss


class ContrastiveLoss(Layer):
    """The layer; bottoms are features (N, C) or (N, C, 1, 1), twice, and similarity (N).

    Args:
        margin, legacy: see `contrastive_loss`.
    """

    def __init__(self, *, margin: float = 1.0, legacy: bool = False) -> None:
        super().__init__()
        self.margin = margin
        self.legacy = legacy

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        one_label_per_item(bottoms[2])
        for shape in bottoms[:2]:
            if len(shape) < 2 or math.prod(shape[2:]) != 1:
                raise ShapeError(f"features must have shape (N, C), got {list(shape)}")
        if bottoms[0][1] != bottoms[1][1] or bottoms[2][:1] != bottoms[0][:1]:
            raise ShapeError(
                f"features must have equally many channels, and similarities as many items; "
                f"got {', '.join(str(list(shape)) for shape in bottoms)}"
            )
        return ((),)

    def forward(self, first: Tensor, second: Tensor, similarity: Tensor) -> Tensor:
        loss = contrastive_loss(
            first.flatten(1),
            second.flatten(1),
            similarity.detach().flatten().to(torch.int64) != 0,
            margin=self.margin,
            legacy=self.legacy,
        )
        return forbid_gradient(loss, similarity, "similarity")


@register_layer("ContrastiveLoss", bottoms=3, is_loss=True, not_forced=(2,))
def _build(spec: LayerSpec) -> ContrastiveLoss:
    param = spec.param.contrastive_loss_param
    layer = ContrastiveLoss(margin=param.margin, legacy=param.legacy_version)
    layer.top_shapes(*spec.bottoms)
    return layer
