"""Layers run one by one, each forward from its bottoms and backward from its tops' diffs.

Spec: caffe-net.md section 10. A net runs as one differentiable function; this is for those who look
between two layers: pycaffe, which does so for scripts, and `debug_info`, which logs what passes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.common import NO_GRADIENT_HINT
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.registry import Layer
from caffe_ssd.net.net import Net, NetResult
from caffe_ssd.net.no_backward import NO_BACKWARD
from caffe_ssd.net.plan import Step, Value, naming


@dataclass(frozen=True)
class LayerPass:
    """What one layer's forward left for its backward: leaves of its own graph, and its tops."""

    bottoms: Sequence[Tensor]
    tops: tuple[Tensor, ...]


class Watcher(Protocol):
    """Is told of every layer that has run."""

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        """A layer has written its tops."""

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        """A layer has written its bottoms' diffs, None where it wrote none."""


def run_layer(step: Step, layer: Layer, bottoms: Sequence[Tensor]) -> LayerPass:
    """One layer's forward.

    Args:
        step: its place in the net.
        layer: its module.
        bottoms: leaves; those that want a diff require a gradient.
    """
    with torch.set_grad_enabled(step.needs_backward):
        result = layer(*bottoms)
    return LayerPass(bottoms, (result,) if isinstance(result, Tensor) else tuple(result))


def run_layer_backward(
    step: Step, layer: Layer, record: LayerPass, top_diffs: Sequence[Tensor]
) -> list[Tensor | None]:
    """One layer's backward; the diffs of its learnt blobs are added up.

    Args:
        step: its place in the net.
        layer: its module.
        record: what its forward left.
        top_diffs: one per top.

    Returns:
        The bottoms' diffs, None for those that want none.

    Raises:
        LayerError: the layer, or one of its bottoms, has no backward pass.
    """
    _check_backward(step)
    learnt = [blob for blob in layer.blobs if blob.requires_grad]
    wanted = [bottom for bottom in record.bottoms if bottom.requires_grad]
    gradients = _gradients(record.tops, top_diffs, [*wanted, *learnt])
    for parameter, gradient in zip(learnt, gradients[len(wanted) :], strict=True):
        diff_of(parameter).add_(gradient)
    found = iter(gradients)
    return [next(found) if bottom.requires_grad else None for bottom in record.bottoms]


def diff_of(parameter: nn.Parameter) -> Tensor:
    """A learnt blob's diff, zeros if there was none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def run_watched(net: Net, watcher: Watcher, *, backward: bool) -> NetResult:
    """Run the whole net layer by layer; the same numbers as `Net.forward` and loss.backward().

    Args:
        net: its Input layers are fed zeros.
        watcher: told of every layer.
        backward: whether to run backward too, which adds to the diffs of learnt blobs.
    """
    values: dict[Value, Tensor] = {}
    records: list[LayerPass] = []
    diffs: dict[Value, Tensor] = {}
    loss = torch.zeros((), device=net.device)
    batch_size = 0
    for step, layer in zip(net.steps, net.layers, strict=True):
        if isinstance(layer, DetectionEvaluate):
            layer.batch_size = batch_size
        wanted = [flag and step.needs_backward and backward for flag in step.propagate_down]
        pairs = zip(step.bottoms, wanted, strict=True)
        bottoms = [values[value].detach().requires_grad_(flag) for value, flag in pairs]
        with naming(step):
            record = run_layer(step, layer, bottoms)
        tops = [top.detach().to(net.device) for top in record.tops]
        if not step.bottoms and tops and tops[0].dim() and not batch_size:
            batch_size = tops[0].shape[0]
        for value, top, weight in zip(step.tops, tops, step.loss_weights, strict=True):
            values[value] = top
            if weight:
                loss = loss + weight * top.sum()
                diffs[value] = torch.full_like(top, weight)
        watcher.forward(step, layer, tops)
        records.append(record)
    if backward:
        _run_backward(net, records, diffs, watcher)
    finals = {net.blob_names[blob]: value for blob, value in net.plan.final_values().items()}
    return NetResult(loss=loss, blobs={name: values[finals[name]] for name in net.outputs})


def _run_backward(
    net: Net, records: Sequence[LayerPass], diffs: dict[Value, Tensor], watcher: Watcher
) -> None:
    for step, layer, record in zip(
        reversed(net.steps), reversed(net.layers), reversed(records), strict=True
    ):
        if not step.needs_backward:
            continue
        top_diffs = [
            diffs[value] if value in diffs else torch.zeros_like(top)
            for value, top in zip(step.tops, record.tops, strict=True)
        ]
        with naming(step):
            found = run_layer_backward(step, layer, record, top_diffs)
        for value, diff in zip(step.bottoms, found, strict=True):
            if diff is not None:
                diffs[value] = diff
        watcher.backward(step, layer, found)


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
