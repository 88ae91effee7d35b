"""Dropout: in phase TRAIN zero a random share of the elements and scale up the others.

Spec: caffe-layers.md section D, caffe-solver.md section 10.
Quirk: the masks on the CPU come from the shared random stream and equal the reference's; on another
device they come from that device's default generator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import Layer, LayerSpec, register_layer
from caffe_ssd.random import CaffeRandom


class Dropout(Layer):
    """The layer; any shape.

    Args:
        ratio: share that is zeroed, between 0 and 1.
        is_train: whether to drop at all.
        rng: where masks on the CPU come from.
    """

    draws_on_device = True

    def __init__(self, *, ratio: float, is_train: bool, rng: CaffeRandom) -> None:
        super().__init__()
        self.ratio = ratio
        self.is_train = is_train
        self.can_repeat = not is_train  # another mask every time
        self.rng = rng

    def forward(self, bottom: Tensor) -> Tensor:
        if not self.is_train:
            return bottom
        if bottom.device.type != "cpu":
            return F.dropout(bottom, self.ratio)
        kept = torch.from_numpy(self.rng.bernoulli(1 - self.ratio, bottom.numel()))
        return bottom * (kept.reshape(bottom.shape).to(bottom.dtype) / (1 - self.ratio))


@register_layer("Dropout")
def _build(spec: LayerSpec) -> Dropout:
    ratio = spec.param.dropout_param.dropout_ratio
    if not 0 < ratio < 1:
        raise LayerParamError(f"dropout_ratio must lie between 0 and 1, got {ratio:g}")
    return Dropout(ratio=ratio, is_train=spec.is_train, rng=spec.runtime.rng)
