"""`debug_info`: the mean absolute values of all blobs and diffs of a pass, in the log.

Spec: caffe-net.md section 10.

Quirk: a solver's `debug_info` counts in iterations it displays; a net's own counts in every pass of
    a test net and in pycaffe.

The pass is the one that runs without it; see net/watching.py. Numbers are fetched from the device
once per pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd import log
from caffe_ssd.layers.registry import Layer
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.plan import Step
from caffe_ssd.net.watching import Watcher, WatchingRunner, uses_of_blobs


def forward(net: Net) -> NetResult:
    """One pass without gradients, logged if the net's `debug_info` is set."""
    with torch.no_grad():
        if not net.debug_info:
            plain: NetResult = net()
            return plain
        with DebugReport(net) as report:
            watched: NetResult = net(runner=WatchingRunner(net.context(), report))
    return watched


def forward_backward(net: Net) -> NetResult:
    """One pass that adds to the gradients, logged if the net's `debug_info` is set.

    Returns:
        What it gives, without what a backward pass needs: that is past.
    """
    if not net.debug_info:
        result: NetResult = net()
        _backward(result)
        return result.detached()
    with DebugReport(net) as report:
        runner = WatchingRunner(net.context(), report, uses_of_blobs(net.layers))
        result = net(runner=runner)
        _backward(result)
        runner.tell_learnt(net.steps, net.layers)
    log_all_params(net)
    return result.detached()


def _backward(result: NetResult) -> None:
    if result.loss.requires_grad:
        result.loss.backward()  # type: ignore[no-untyped-call]


class DebugReport(Watcher):
    """Collects the lines of one pass; at the end of the `with` block they are written.

    Also after an error: the last lines then tell how far the pass came.

    Args:
        net: the net that runs.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._lines: list[tuple[log.Line, dict[str, str | int]]] = []
        self._values: list[Tensor] = []
        self._diffs: dict[str, list[Tensor | None]] = {}  # by layer: means of its bottoms' diffs

    def __enter__(self) -> DebugReport:
        return self

    def __exit__(self, *error: object) -> None:
        numbers = torch.stack(self._values).tolist() if self._values else []
        for (line, fields), number in zip(self._lines, numbers, strict=True):
            line.write(**fields, value=number)

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        name = step.param.name
        for value, top in zip(step.tops, tops, strict=True):
            blob = self._net.blob_names[value.blob]
            self._add(log.DEBUG_TOP, self._mean(top), layer=name, blob=blob)
        for i, blob in enumerate(layer.blobs):
            mean = self._mean(blob.detach())
            self._add(log.DEBUG_PARAM, mean, layer=name, param=_display_name(step, i))

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        means = [None if diff is None else self._mean(diff) for diff in diffs]
        self._diffs[step.param.name] = means

    def learnt(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        name = step.param.name
        means = self._diffs.get(name, [None] * len(step.bottoms))
        for value, flag, mean in zip(step.bottoms, step.propagate_down, means, strict=True):
            if flag:
                blob = self._net.blob_names[value.blob]
                self._add(log.DEBUG_BOTTOM_DIFF, mean, layer=name, blob=blob)
        for i, diff in enumerate(diffs):
            if step.param_flags[i]:
                mean = None if diff is None else self._mean(diff)
                self._add(log.DEBUG_PARAM_DIFF, mean, layer=name, index=i)

    def _add(self, line: log.Line, mean: Tensor | None, **fields: str | int) -> None:
        """Note a line; None is the mean of a diff that nothing reached."""
        self._lines.append((line, fields))
        self._values.append(torch.zeros((), device=self._net.device) if mean is None else mean)

    def _mean(self, content: Tensor) -> Tensor:
        mean: Tensor = torch.linalg.vector_norm(content.float(), 1) / content.numel()
        return mean.to(self._net.device)


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
