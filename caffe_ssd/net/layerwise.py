"""A pass that leaves behind what each layer needs for a backward pass of its own.

Spec: caffe-net.md section 10. A net runs as one differentiable function; this is for those who stop
between two layers: pycaffe, which does so for scripts, and `caffe time`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.blob import diff_of
from caffe_ssd.layers.common import NO_GRADIENT_HINT
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.no_backward import NO_BACKWARD
from caffe_ssd.net.plan import Step, named


@dataclass(frozen=True)
class LayerPass:
    """What one layer's forward left for its backward: leaves of its own graph, and its tops."""

    bottoms: Sequence[Tensor]
    tops: Sequence[Tensor]


def leaves_of(op: Instruction, bottoms: Sequence[Tensor]) -> list[Tensor]:
    """Bottoms cut off from what made them; those that receive a diff require a gradient."""
    return [
        bottom.detach().requires_grad_(flag and op.needs_backward)
        for bottom, flag in zip(bottoms, op.propagate_down, strict=True)
    ]


def run_layer_backward(
    op: Instruction, record: LayerPass, top_diffs: Sequence[Tensor]
) -> list[Tensor | None]:
    """One layer's backward; the diffs of its learnt blobs are added up.

    Args:
        op: the layer by itself.
        record: what its forward left.
        top_diffs: one per top.

    Returns:
        The bottoms' diffs, None for those that want none.

    Raises:
        LayerError: the layer, or one of its bottoms, has no backward pass.
    """
    try:
        _check_backward(op.step)
        learnt = [blob for blob in blobs_of(op.layer) if blob.requires_grad]
        wanted = [bottom for bottom in record.bottoms if bottom.requires_grad]
        gradients = _gradients(record.tops, top_diffs, [*wanted, *learnt])
    except LayerError as error:
        raise named(error, op.step) from None
    for parameter, gradient in zip(learnt, gradients[len(wanted) :], strict=True):
        diff_of(parameter).add_(gradient)
    found = iter(gradients)
    return [next(found) if bottom.requires_grad else None for bottom in record.bottoms]


def _check_backward(step: Step) -> None:
    if not step.type.has_backward:
        raise LayerError(NO_BACKWARD)
    for j in step.type.not_forced:
        if j < len(step.propagate_down) and step.propagate_down[j]:
            raise LayerError(
                f"bottom {j} ({step.param.bottom[j]!r}) cannot receive a gradient; "
                + NO_GRADIENT_HINT
            )


def _gradients(
    tops: Sequence[Tensor], diffs: Sequence[Tensor], wanted: Sequence[Tensor | nn.Parameter]
) -> list[Tensor]:
    """Gradients of the tops, weighted by their diffs; zeros where nothing depends."""
    pairs = [(top, diff) for top, diff in zip(tops, diffs, strict=True) if top.requires_grad]
    if not wanted or not pairs:
        return [torch.zeros_like(tensor) for tensor in wanted]
    found = torch.autograd.grad(
        [top for top, _ in pairs],
        list(wanted),
        [diff for _, diff in pairs],
        allow_unused=True,
        retain_graph=True,
    )
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(wanted, found, strict=True)
    ]


def blobs_of(layer: nn.Module) -> Sequence[nn.Parameter]:
    """A module's learnt blobs; none for one that stands for several layers."""
    return getattr(layer, "blobs", ())
