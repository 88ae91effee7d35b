"""SmoothL1Loss with `sigma` or weights: where it turns linear is set, as in Fast R-CNN.

Spec: other-forks.md section 9.4.
Quirk: the sum is divided by the length of axis 0 only.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.extensions.ohem_loss import is_ohem
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.layers.smooth_l1_loss import check_pair
from caffe_ssd.proto.caffe_pb2 import LayerParameter


def smooth_l1(difference: Tensor, *, sigma: float = 1.0) -> Tensor:
    """0.5 (sigma d)^2 where |d| < 1 / sigma^2, |d| - 0.5 / sigma^2 elsewhere."""
    zero = difference.new_zeros(()).expand_as(difference)
    return F.smooth_l1_loss(difference, zero, reduction="none", beta=1 / sigma**2)


class SigmaSmoothL1Loss(Layer):
    """The layer; bottoms are prediction and target, perhaps inside and outside weights.

    Args:
        sigma: see `smooth_l1`.
    """

    def __init__(self, *, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = sigma

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        for other in bottoms[1:]:
            check_pair(bottoms[0], other)
        return ((),)

    def forward(self, prediction: Tensor, *others: Tensor) -> Tensor:
        target, *weights = (other.reshape(prediction.shape) for other in others)
        difference = prediction - target
        if not weights:
            return smooth_l1(difference, sigma=self.sigma).sum() / prediction.shape[0]
        inside, outside = (weight.detach() for weight in weights)
        loss = outside * smooth_l1(inside * difference, sigma=self.sigma)
        return loss.sum() / prediction.shape[0]


def _is_meant(param: LayerParameter) -> bool:
    weighted = len(param.bottom) > 2
    return (param.HasField("smooth_l1_loss_param") or weighted) and not is_ohem(param)


@register_layer(
    "SmoothL1Loss",
    bottoms=range(2, 5),
    is_loss=True,
    when=_is_meant,
    told_by="smooth_l1_loss_param, or inside and outside weights",
)
def _build(spec: LayerSpec) -> SigmaSmoothL1Loss:
    if len(spec.bottoms) == 3:
        raise ShapeError("inside weights (bottom 2) need outside weights (bottom 3)")
    sigma = spec.param.smooth_l1_loss_param.sigma
    if not sigma > 0:
        raise LayerParamError(f"sigma must be positive, got {sigma:g}")
    layer = SigmaSmoothL1Loss(sigma=sigma)
    layer.top_shapes(*spec.bottoms)
    return layer
