"""Runs a net between blobs that a script may read and write.

Spec: caffe-net.md section 10.
Quirk: HingeLoss leaves numbers in its bottom's diff. If it does not run backward itself, a Split
    before it takes them for a gradient. (The engine's own passes do not do this.)

The engine runs a whole net as one differentiable function. Here every layer runs by itself: it
reads its bottoms' `data`, writes its tops' `data`, and in backward turns its tops' `diff` into its
bottoms'. So scripts may change anything between two layers, as they could with the original.
A whole forward pass may be made in a quicker way that looks the same; see quick_pass.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caffe.backward_records import BackwardRecords
from caffe.blob_store import BlobStore
from caffe.blob_vec import BlobVec
from caffe.quick_pass import QuickPasses
from caffe.thread_guard import ThreadGuard
from caffe_ssd.layers.blob import Blob, Memory, blob_of, diff_of
from caffe_ssd.layers.registry import Layer, Shape
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.layerwise import leaves_of, run_layer_backward
from caffe_ssd.net.plan import Step, Value, naming
from caffe_ssd.net.runner import LossTerm, Runner
from caffe_ssd.solver.debug_info import DebugReport

_ALIASES_DATA = {"Split", "Flatten", "Reshape"}
_ALIASES_DIFF = {"Reshape"}


@dataclass(frozen=True)
class LayerView:
    """One entry of `Net.layers`: the layer's type name and its learnt blobs."""

    type: str
    blobs: BlobVec


class LayerwiseNet:
    """An engine net with its blobs.

    Args:
        engine: the net; its learnt blobs are shared, not copied.
        alone: whether nobody else changes its learnt blobs, as a solver does.

    Attributes:
        blobs: by name, in order of creation.
        params: learnt blobs by layer, only layers that have some.
        layers: type and learnt blobs of each layer.
    """

    def __init__(self, engine: EngineNet, *, alone: bool = False) -> None:
        self.engine = engine
        engine.keep_diffs = True
        engine.tie_diffs()
        self._layers: list[Layer] = engine.layers
        self._memories: dict[int, tuple[Any, Any]] = {}
        self._report: DebugReport | None = None  # while a pass with debug_info runs
        self._seen_shapes: dict[int, tuple[Shape, ...]] = {}
        self._aliases: set[Value] = set()  # values whose writing is their bottom's
        self._numbers = {id(step): i for i, step in enumerate(engine.steps)}
        self._blobs: list[Blob] = []
        for step in engine.steps:
            self._make_blobs(step)
        self._records = BackwardRecords(engine, self._blobs)
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            zip(engine.blob_names, self._blobs, strict=True)
        )
        self.given = {id(op.step): self._given(op) for op in engine.plain_program}
        for step in engine.steps:
            for value, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight:
                    self._loss_diff(self._blobs[value.blob], weight)
        self._quick = QuickPasses(self, self._blobs) if alone else None
        self._threads = ThreadGuard()
        given = [value for values in self.given.values() for value in values]
        self._input_memories = {id(self._blobs[value.blob].data_memory) for value in given}
        for blob in self._blobs:
            blob.data_memory.onlooker = self
        self.wrap_parameters()

    def _make_blobs(self, step: Step) -> None:
        """Create the blobs that this layer is the first to write."""
        for value in step.tops:
            if value.blob < len(self._blobs):
                continue  # in place
            blob = Blob(self.engine.blob_shapes[value.blob])
            kind = step.param.type
            if kind in _ALIASES_DATA:
                self._aliases.add(value)
                blob.data_memory = self._blobs[step.bottoms[0].blob].data_memory
            if kind in _ALIASES_DIFF:
                blob.diff_memory = self._blobs[step.bottoms[0].blob].diff_memory
            self._blobs.append(blob)

    def _given(self, op: Instruction) -> list[Value]:
        """The tops that a pass takes from their blobs, where scripts may have written into them."""
        if op.step.param.type == "Input":
            return list(op.tops)
        made = op.layer.made_once()  # type: ignore[operator]
        for i, top in made.items():
            self._blobs[op.tops[i].blob].data_memory.write(top.clone())
        return [op.tops[i] for i in made]

    def wrap_parameters(self) -> None:
        """Look at the engine's learnt blobs anew, after it has adopted others."""
        self._memories.clear()
        self.params: OrderedDict[str, BlobVec] = OrderedDict()
        self.layers: list[LayerView] = []
        for step, layer in zip(self.engine.steps, self._layers, strict=True):
            blobs = BlobVec(blob_of(parameter, self._memories) for parameter in layer.blobs)
            self.layers.append(LayerView(step.param.type, blobs))
            if blobs:
                self.params[step.param.name] = blobs
        if self._quick is not None:
            self._quick.watch_parameters([data for data, _ in self._memories.values()])

    def before_look(self, memory: Memory) -> None:
        """Somebody asks for the array of a blob."""
        if self._quick is not None:
            self._quick.before_look(memory)

    def after_look(self, memory: Memory, lease: object) -> None:
        """Somebody has got it."""
        if id(memory) in self._input_memories:
            self._threads.touch(lease)

    def share_parameters(self) -> None:
        """From now on others may change the learnt blobs, too."""
        self.settle()
        self._quick = None

    def before_weights_change(self) -> None:
        """To be called before the engine's learnt blobs change."""
        self.flush_parameters()  # what was written before must not come back over the weights
        if self._quick is not None:
            self._quick.before_weights_change()

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

    # Forward -------------------------------------------------------------------------------------

    def run_forward(self, first: int = 0, last: int | None = None) -> float:
        """Run layers first..last by number, default all; returns the weighted loss.

        Raises:
            NetError: another thread uses the net at the same time.
        """
        with self.turn():
            return self._run_forward(first, last)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A block that no other thread interrupts; arrays that others hold stay as they are.

        Raises:
            NetError: another thread uses the net at the same time.
        """
        with self._threads.passing() as changed:
            if changed:
                for blob in self._blobs:
                    if id(blob.data_memory) not in self._input_memories:
                        blob.data_memory.let_go()
            yield

    def _run_forward(self, first: int, last: int | None) -> float:
        self.flush_parameters()
        last = len(self._layers) - 1 if last is None else last
        is_whole = (first, last) == (0, len(self._layers) - 1)
        if is_whole and self._quick is not None and not self.engine.debug_info:
            terms = self._quick.run()
            if terms is not None:
                return self._loss(terms)
        if not is_whole:
            self.settle()
        return self.run_layers(self.engine.plain_program[first : last + 1])

    def run_layers(self, program: Sequence[Instruction], store: BlobStore | None = None) -> float:
        """Run layers one by one between the blobs; returns the weighted loss.

        Args:
            program: the layers.
            store: where they read and write; None for the blobs as they are.
        """
        device = self.engine.device
        inputs = [value for op in program for value in self.given.get(id(op.step), ())]
        for value in inputs:
            self._blobs[value.blob].data_memory.prefer_host()
        store = BlobStore(self._blobs, device) if store is None else store
        store.unwritten = {*self._aliases, *inputs}
        with self._reporting():
            runner = _BlobRunner(self, self.context())
            return self._loss(runner.run(program, store, fed={v: store[v] for v in inputs}))

    def _loss(self, terms: Sequence[LossTerm]) -> float:
        loss = 0.0
        for value, weight, top in terms:
            diff = self._loss_diff(self._blobs[value.blob], weight)
            loss += float((top.detach() * diff.reshape(top.shape)).sum())
        return loss

    def context(self) -> RunContext:
        """How a pass between the blobs runs: the first blob tells the batch size."""
        context = self.engine.context()
        context.batch_size = next((blob.shape[0] for blob in self._blobs[:1] if blob.shape), None)
        return context

    def source_values(self) -> dict[Value, Tensor]:
        """What the layers without bottoms have made, or scripts have put in its place."""
        store = BlobStore(self._blobs, self.engine.device)
        sources = [op for op in self.engine.plain_program if not (op.bottoms or op.layer.blobs)]
        return {value: store[value] for op in sources for value in op.tops}

    def settle(self) -> None:
        """Make real what a quick pass has left open."""
        if self._quick is not None:
            self._quick.settle()

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

    def before_layer(self, op: Instruction, bottoms: Sequence[Tensor]) -> list[Tensor]:
        """What a layer gets to read in place of the blobs themselves.

        Raises:
            LayerError: the layer refuses shapes that it has not seen in the pass before.
        """
        shapes = tuple(tuple(bottom.shape) for bottom in bottoms)
        if bottoms and self._seen_shapes.get(self._number(op)) != shapes:
            layer: Layer = op.layer  # type: ignore[assignment]
            with naming(op.step):
                layer.top_shapes(*shapes)
            self._seen_shapes[self._number(op)] = shapes
        written = {value.blob for value in op.tops}
        leaves = leaves_of(op, bottoms)
        for i, value in enumerate(op.bottoms):
            if value.blob in written and self._blobs[value.blob].data_memory.is_exposed:
                # In place: the array is about to be overwritten.
                leaves[i] = leaves[i].detach().clone().requires_grad_(leaves[i].requires_grad)
        return leaves

    def after_layer(
        self, op: Instruction, bottoms: Sequence[Tensor], tops: Sequence[Tensor]
    ) -> None:
        """Keep what the layer's backward pass will need."""
        layer: Layer = op.layer  # type: ignore[assignment]
        with torch.no_grad():
            for i, scraps in layer.left_in_diffs(*bottoms).items():
                self._blobs[op.bottoms[i].blob].diff_memory.write(scraps)
        if op.needs_backward:
            self._records.keep(op, bottoms, tops)
        if self._report is not None:
            self._report.forward(op.step, layer, tops)

    def _number(self, op: Instruction) -> int:
        return self._numbers[id(op.step)]

    # Backward ------------------------------------------------------------------------------------

    def run_backward(self, first: int | None = None, last: int = 0) -> None:
        """Run layers first..last by number, downwards, default all that need it.

        Raises:
            NetError: another thread uses the net at the same time.
        """
        with self.turn():
            self._run_backward(first, last)

    def _run_backward(self, first: int | None, last: int) -> None:
        self.flush_parameters()
        self.settle()
        first = len(self._layers) - 1 if first is None else first
        with self._reporting():
            for i in range(first, last - 1, -1):
                op = self.engine.plain_program[i]
                if op.needs_backward and (op.bottoms or len(self._layers[i].blobs)):
                    self._run_layer_backward(i, op)

    def _run_layer_backward(self, i: int, op: Instruction) -> None:
        record = self._records.record_for(op)
        diffs = [self._top_diff(v.blob, top) for v, top in zip(op.tops, record.tops, strict=True)]
        found = self._records.corrected(op, diffs, run_layer_backward(op, record, diffs))
        for value, diff in zip(op.bottoms, found, strict=True):
            if diff is not None:
                self._blobs[value.blob].diff_memory.write(diff)
        if self._report is not None:
            layer = self._layers[i]
            self._report.backward(op.step, layer, found)
            self._report.learnt(op.step, layer, [blob.grad for blob in layer.blobs])

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


class _BlobRunner(Runner):
    """Runs layers between blobs and keeps what their backward passes need."""

    def __init__(self, net: LayerwiseNet, context: RunContext) -> None:
        super().__init__(context)
        self._net = net

    def source(self, op: Instruction, fed: Mapping[Value, Tensor]) -> tuple[Tensor, ...]:
        tops = super().source(op, fed)
        if not fed.keys().isdisjoint(op.tops):
            self._net.after_layer(op, (), tops)
        return tops

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        leaves = self._net.before_layer(op, bottoms)
        tops = super().call(op, leaves)
        self._net.after_layer(op, leaves, tops)
        return tops
