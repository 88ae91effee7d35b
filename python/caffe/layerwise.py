"""Runs a net layer by layer between blobs that a script may read and write.

Spec: caffe-net.md section 10.
Quirk: HingeLoss leaves numbers in its bottom's diff. If it does not run backward itself, a Split
    before it takes them for a gradient. (The engine's own passes do not do this.)

The engine runs a whole net as one differentiable function. Here every layer runs by itself: it
reads its bottoms' `data`, writes its tops' `data`, and in backward turns its tops' `diff` into its
bottoms'. So scripts may change anything between two layers, as they could with the original.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe.blob import Blob, blob_of
from caffe_ssd.errors import NetError
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.hinge_loss import HingeLoss, shortfalls
from caffe_ssd.layers.registry import Layer, Shape
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net.layerwise import LayerPass, diff_of, run_layer, run_layer_backward
from caffe_ssd.net.plan import Step, naming
from caffe_ssd.solver.debug_info import DebugReport

_ALIASES_DATA = {"Split", "Flatten", "Reshape"}
_ALIASES_DIFF = {"Reshape"}


@dataclass(frozen=True)
class LayerView:
    """One entry of `Net.layers`: the layer's type name and its learnt blobs."""

    type: str
    blobs: list[Blob]


class LayerwiseNet:
    """An engine net with its blobs.

    Args:
        engine: the net; its learnt blobs are shared, not copied.

    Attributes:
        blobs: by name, in order of creation.
        params: learnt blobs by layer, only layers that have some.
        layers: type and learnt blobs of each layer.
    """

    def __init__(self, engine: EngineNet) -> None:
        self.engine = engine
        engine.keep_diffs = True
        engine.tie_diffs()
        self._layers: list[Layer] = engine.layers
        self._memories: dict[int, tuple[Any, Any]] = {}
        self._report: DebugReport | None = None  # while a pass with debug_info runs
        self._records: dict[int, LayerPass] = {}
        self._seen_shapes: dict[int, tuple[Shape, ...]] = {}
        self._blobs: list[Blob] = []
        for step in engine.steps:
            self._make_blobs(step)
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            zip(engine.blob_names, self._blobs, strict=True)
        )
        for step in engine.steps:
            for value, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight:
                    self._loss_diff(self._blobs[value.blob], weight)
        self.wrap_parameters()

    def _make_blobs(self, step: Step) -> None:
        """Create the blobs that this layer is the first to write."""
        for value in step.tops:
            if value.blob < len(self._blobs):
                continue  # in place
            blob = Blob(self.engine.blob_shapes[value.blob])
            kind = step.param.type
            if kind in _ALIASES_DATA:
                blob.data_memory = self._blobs[step.bottoms[0].blob].data_memory
            if kind in _ALIASES_DIFF:
                blob.diff_memory = self._blobs[step.bottoms[0].blob].diff_memory
            self._blobs.append(blob)

    def wrap_parameters(self) -> None:
        """Look at the engine's learnt blobs anew, after it has adopted others."""
        self._memories.clear()
        self.params: OrderedDict[str, list[Blob]] = OrderedDict()
        self.layers: list[LayerView] = []
        for step, layer in zip(self.engine.steps, self._layers, strict=True):
            blobs = [blob_of(parameter, self._memories) for parameter in layer.blobs]
            self.layers.append(LayerView(step.param.type, blobs))
            if blobs:
                self.params[step.param.name] = blobs

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all learnt blobs."""
        self.flush_parameters()
        for entry in self.engine.learnable:
            diff_of(entry.blob).zero_()

    def reshape(self) -> None:
        """Propagate the inputs' shapes through all layers without computing."""
        for step, layer in zip(self.engine.steps, self._layers, strict=True):
            if step.param.type == "Input":
                continue
            bottoms = [tuple(self._blobs[value.blob].shape) for value in step.bottoms]
            with naming(step):
                shapes = layer.top_shapes(*bottoms)
            for value, shape in zip(step.tops, shapes, strict=True):
                self._blobs[value.blob].reshape(*shape)

    def run_forward(self, first: int = 0, last: int | None = None) -> float:
        """Run layers first..last by number, default all; returns the weighted loss."""
        self.flush_parameters()
        last = len(self._layers) - 1 if last is None else last
        with self._reporting():
            return sum(self._forward_layer(i) for i in range(first, last + 1))

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Log the pass made in this block if the net's `debug_info` is set."""
        if not self.engine.debug_info:
            yield
            return
        with DebugReport(self.engine) as self._report:
            try:
                yield
            finally:
                self._report = None

    def _forward_layer(self, i: int) -> float:
        """Run one layer; returns what its tops add to the loss."""
        step, device = self.engine.steps[i], self.engine.device
        if step.param.type == "Input":
            for value in step.tops:
                self._blobs[value.blob].data_memory.prefer_host()
        else:
            with naming(step):
                self._run_layer(i, step)
        loss = 0.0
        for value, weight in zip(step.tops, step.loss_weights, strict=True):
            if weight:
                blob = self._blobs[value.blob]
                data = blob.data_memory.tensor(blob.shape, device)
                loss += float((data * self._loss_diff(blob, weight)).sum())
        if self._report is not None:
            tops = [self._blobs[value.blob] for value in step.tops]
            tensors = [blob.data_memory.tensor(blob.shape, device) for blob in tops]
            self._report.forward(step, self._layers[i], tensors)
        return loss

    def _run_layer(self, i: int, step: Step) -> None:
        layer, device = self._layers[i], self.engine.device
        written = {value.blob for value in step.tops}
        bottoms = []
        for value, flag in zip(step.bottoms, step.propagate_down, strict=True):
            blob = self._blobs[value.blob]
            data = blob.data_memory.tensor(blob.shape, device).detach()
            if value.blob in written and blob.data_memory.is_exposed:
                data = data.clone()  # in place: the array is about to be overwritten
            bottoms.append(data.requires_grad_(flag and step.needs_backward))
        self._check_shapes(i, bottoms)
        if isinstance(layer, DetectionEvaluate):
            layer.batch_size = self._blobs[0].shape[0]
        record = run_layer(step, layer, bottoms)
        tops = record.tops
        if not step.bottoms:
            tops = tuple(top.to(device) for top in tops)
        if isinstance(layer, HingeLoss):
            with torch.no_grad():
                self._blobs[step.bottoms[0].blob].diff_memory.write(shortfalls(*bottoms))
        if step.needs_backward:
            self._records[i] = LayerPass(bottoms, tops)
        for value, top in zip(step.tops, tops, strict=True):
            blob = self._blobs[value.blob]
            blob.reshape(*top.shape)
            if step.param.type not in _ALIASES_DATA:
                blob.data_memory.write(top)

    def _check_shapes(self, i: int, bottoms: Sequence[Tensor]) -> None:
        """Let the layer refuse shapes that it has not seen in the pass before."""
        shapes = tuple(tuple(bottom.shape) for bottom in bottoms)
        if bottoms and self._seen_shapes.get(i) != shapes:
            self._layers[i].top_shapes(*shapes)
            self._seen_shapes[i] = shapes

    def run_backward(self, first: int | None = None, last: int = 0) -> None:
        """Run layers first..last by number, downwards, default all that need it."""
        self.flush_parameters()
        first = len(self._layers) - 1 if first is None else first
        with self._reporting():
            for i in range(first, last - 1, -1):
                step = self.engine.steps[i]
                if step.needs_backward and (step.bottoms or len(self._layers[i].blobs)):
                    with naming(step):
                        self._run_layer_backward(i, step)

    def _run_layer_backward(self, i: int, step: Step) -> None:
        record = self._records.get(i)
        if record is None:
            raise NetError(f"backward before forward in layer {step.param.name!r}")
        diffs = [self._top_diff(v.blob, top) for v, top in zip(step.tops, record.tops, strict=True)]
        found = run_layer_backward(step, self._layers[i], record, diffs)
        for value, diff in zip(step.bottoms, found, strict=True):
            if diff is not None:
                self._blobs[value.blob].diff_memory.write(diff)
        if self._report is not None:
            self._report.backward(step, self._layers[i], found)

    def _top_diff(self, blob_index: int, top: Tensor) -> Tensor:
        blob = self._blobs[blob_index]
        return blob.diff_memory.tensor(blob.shape, top.device).to(top.dtype).reshape(top.shape)

    def _loss_diff(self, blob: Blob, weight: float) -> Tensor:
        """A loss top's diff: its weight, unless a script has overwritten it."""
        if blob.diff_memory.is_blank(blob.count):
            blob.diff_memory.write(torch.full(blob.shape, weight, device=self.engine.device))
        return blob.diff_memory.tensor(blob.shape, self.engine.device)

    def flush_parameters(self) -> None:
        """Bring what scripts wrote into learnt blobs to the device."""
        for data, diff in self._memories.values():
            data.flush()
            diff.flush()
