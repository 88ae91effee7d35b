"""Ends a backward pass that reaches what has none with an error that names the layer.

Spec: caffe-net.md section 10. Layers without a backward pass cut autograd's graph, so that without
this a net would train only what lies above them, in silence; the reference stops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.common import MAKER
from caffe_ssd.net.plan import Step

NO_BACKWARD = (
    "has no backward pass; set propagate_down: false in the layers above, or lr_mult: 0 in those "
    "below, so that none is asked for"
)


def name_maker(tops: tuple[Tensor, ...], step: Step) -> tuple[Tensor, ...]:
    """The tops of a layer that takes part in the backward pass, their autograd nodes marked.

    Args:
        tops: what the layer made.
        step: the layer; if its type has no backward pass, the tops are arranged so that one that
            reaches them fails.
    """
    if not step.type.has_backward:
        anchor = torch.zeros((), requires_grad=True)
        return tuple(_NoBackward.apply(anchor, top, step) for top in tops)  # type: ignore[no-untyped-call]
    for top in tops:
        if top.grad_fn is not None:
            notes: dict[str, object] = top.grad_fn.metadata  # type: ignore[assignment]
            notes.setdefault(MAKER, (step.param.name, step.param.type))
    return tops


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, top: Tensor, step: Step) -> Tensor:
        ctx.layer, ctx.layer_type = step.param.name, step.param.type
        return top.view_as(top)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        raise LayerError(NO_BACKWARD, layer=ctx.layer, layer_type=ctx.layer_type)
