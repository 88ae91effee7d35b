"""`debug_info`: the mean absolute values of all blobs and diffs of a pass, in the log.

Spec: caffe-net.md section 10.

Quirk: a solver's `debug_info` counts in iterations it displays; a net's own counts in every pass of
    a test net and in pycaffe.

The net runs layer by layer, so that every blob is seen as it was when its layer had run. Numbers
are fetched from the device once per pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.layers.registry import Layer
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.layerwise import run_watched
from caffe_ssd.net.plan import Step
from caffe_ssd.solver import log


def forward(net: Net) -> NetResult:
    """One pass without gradients, logged if the net's `debug_info` is set."""
    if net.debug_info:
        with DebugReport(net) as report:
            return run_watched(net, report, backward=False)
    with torch.no_grad():
        result: NetResult = net()
    return result


def forward_backward(net: Net) -> NetResult:
    """One pass that adds to the gradients, logged if the net's `debug_info` is set."""
    if net.debug_info:
        with DebugReport(net) as report:
            watched = run_watched(net, report, backward=True)
        log_all_params(net)
        return watched
    result: NetResult = net()
    if result.loss.requires_grad:
        result.loss.backward()  # type: ignore[no-untyped-call]
    return result


class DebugReport:
    """Collects the lines of one pass; at the end of the `with` block they are written.

    Also after an error: the last lines then tell how far the pass came.

    Args:
        net: the net that runs.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._lines: list[tuple[log.Line, dict[str, str | int]]] = []
        self._values: list[Tensor] = []

    def __enter__(self) -> DebugReport:
        return self

    def __exit__(self, *error: object) -> None:
        numbers = torch.stack(self._values).tolist() if self._values else []
        for (line, fields), number in zip(self._lines, numbers, strict=True):
            line.write(**fields, value=number)

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        """A layer has run forward."""
        name = step.param.name
        for value, top in zip(step.tops, tops, strict=True):
            self._add(log.DEBUG_TOP, top, layer=name, blob=self._net.blob_names[value.blob])
        for i, blob in enumerate(layer.blobs):
            self._add(log.DEBUG_PARAM, blob.detach(), layer=name, param=_display_name(step, i))

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        """A layer has run backward."""
        name = step.param.name
        for value, diff in zip(step.bottoms, diffs, strict=True):
            if diff is not None:
                blob = self._net.blob_names[value.blob]
                self._add(log.DEBUG_BOTTOM_DIFF, diff, layer=name, blob=blob)
        for i, blob in enumerate(layer.blobs):
            if step.param_flags[i]:
                gradient = torch.zeros_like(blob) if blob.grad is None else blob.grad
                self._add(log.DEBUG_PARAM_DIFF, gradient, layer=name, index=i)

    def _add(self, line: log.Line, content: Tensor, **fields: str | int) -> None:
        self._lines.append((line, fields))
        mean = torch.linalg.vector_norm(content.float(), 1) / content.numel()
        self._values.append(mean.to(self._net.device))


def log_all_params(net: Net) -> None:
    """Log the norms of all learnable blobs and diffs, as after a whole backward pass."""
    blobs = [entry.blob for entry in net.learnable]
    data = [blob.detach() for blob in blobs]
    diffs = [blob.grad for blob in blobs if blob.grad is not None]
    log.DEBUG_PARAMS.write(
        l1_data=_norm(data, 1),
        l1_diff=_norm(diffs, 1),
        l2_data=_norm(data, 2),
        l2_diff=_norm(diffs, 2),
    )


def _display_name(step: Step, index: int) -> str:
    """A learnt blob's name if the prototxt gives one, else its number."""
    params = step.param.param
    named = params[index].name if index < len(params) else ""
    return named if named else str(index)


def _norm(tensors: list[Tensor], order: int) -> float:
    if not tensors:
        return 0.0
    norms = torch.stack(torch._foreach_norm(tensors, order))
    return float(torch.linalg.vector_norm(norms, order))
