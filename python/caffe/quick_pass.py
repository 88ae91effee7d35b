"""Makes whole forward passes as quickly as the engine does, and lets nobody notice.

A quick pass computes the net's inputs and outputs only. The blobs between them become real when
somebody looks at one: then the layers run one by one with the inputs of that pass. What could make
a difference ends the waiting:

    somebody looks at a blob in between    the pass becomes real, and the next one is real at once
    somebody asks for a learnt blob        the pass becomes real first: the array may be written to
    an array of a blob in between, or of   real at once, so that it shows what the pass computed, or
      a learnt one, still lives            in case it was written to

The first pass at a shape uses the engine's own program. If a second one follows with the same
weights, it pays to freeze them; see caffe_ssd/engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe.blob_store import BlobStore
from caffe_ssd.layers.blob import Blob, Memory
from caffe_ssd.layers.common import all_finite
from caffe_ssd.layers.registry import Layer, Shape, SourceLayer
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.plan import Value, naming
from caffe_ssd.net.runner import LossTerm, Runner

if TYPE_CHECKING:
    from caffe.layerwise import LayerwiseNet

_SHAPES_KEPT = 2  # each may hold a copy of the weights


class QuickPasses:
    """The quick passes of one net.

    Args:
        net: nobody but its own methods changes its learnt blobs.
        blobs: the net's, by number.
    """

    def __init__(self, net: LayerwiseNet, blobs: Sequence[Blob]) -> None:
        self._net = net
        self._blobs = blobs
        self._parameters: Sequence[Memory] = ()
        self._frozen: tuple[Instruction, ...] | None = None
        self._seen: list[tuple[Shape, ...]] = []  # shapes of inputs, with the weights as they are
        self._spread: object = None  # the last shapes of inputs, and what followed for the others
        self._open: dict[Value, Tensor] | None = None  # the sources' tops of a pass not yet real
        self._shapes: list[list[int]] = []  # of all blobs behind that pass
        self._looked = False
        program = net.engine.plain_program
        self._fed = [value for op in program for value in net.given[id(op.step)]]
        self._repeated = tuple(op for op in program if _may_repeat(op))
        self._is_possible = not net.engine.is_train and all(map(_is_harmless, program))
        outputs = [net.engine.final_value(name) for name in net.engine.outputs]
        apart = [value for op in program if not _may_repeat(op) for value in op.tops]
        self._wanted = tuple(dict.fromkeys((*outputs, *apart)))
        finals = net.engine.plan.final_values()
        if any(finals[value.blob] != value for value in apart):  # it is overwritten in place
            self._is_possible = False
        self._real = {id(blobs[value.blob].data_memory) for value in self._wanted}
        self._between = [blob for blob in blobs if id(blob.data_memory) not in self._real]

    def watch_parameters(self, memories: Sequence[Memory]) -> None:
        """Take over the memories of the net's learnt blobs."""
        self._parameters = memories if self._is_possible else ()
        for memory in self._parameters:
            memory.onlooker = _ParameterOnlooker(self.before_weights_change)
        self.before_weights_change()

    def before_look(self, memory: Memory) -> None:
        """Somebody asks for the array of a blob."""
        if id(memory) not in self._real:
            self._looked = True
            self.settle()

    def before_weights_change(self) -> None:
        """Learnt blobs may change from now on."""
        self.settle()
        self._frozen = None
        self._seen.clear()

    # A pass --------------------------------------------------------------------------------------

    def run(self) -> list[LossTerm] | None:
        """Make a pass; None where it has to be made layer by layer."""
        self._open = None
        parameters_held = any(memory.is_held for memory in self._parameters)
        if parameters_held:
            self.before_weights_change()
        if not self._is_possible or self._looked or parameters_held or self._is_watched():
            self._looked = False
            return None
        for value in self._fed:
            self._blobs[value.blob].data_memory.prefer_host()
        fed = {value: self._content(value).clone() for value in self._fed}
        shapes = tuple(tuple(x.shape) for x in fed.values())
        self._spread_shapes(shapes)
        context = self._net.context()
        values: dict[Value, Tensor] = {}
        with torch.no_grad():
            runner = _CarefulRunner(context)
            terms = runner.run(self._program(shapes), values, wanted=self._wanted, fed=fed)
        for value in self._wanted:
            if value not in fed:
                self._write(value, values[value])
        self._open = {value: values[value] for value in self._wanted}
        self._shapes = [blob.shape for blob in self._blobs]
        return terms

    def settle(self) -> None:
        """Make the last pass real, if it is not."""
        if self._open is None:
            return
        given, self._open = self._open, None
        store = _Recovered(self._blobs, self._net.engine.device, given, self._shapes, self._real)
        self._net.run_layers(self._repeated, store)

    def _content(self, value: Value) -> Tensor:
        blob = self._blobs[value.blob]
        return blob.data_memory.tensor(blob.shape, self._net.engine.device)

    def _write(self, value: Value, top: Tensor) -> None:
        blob = self._blobs[value.blob]
        blob.reshape(*top.shape)
        blob.data_memory.write(top.clone() if top.is_inference() else top)

    def _is_watched(self) -> bool:
        """Whether somebody holds an array of a blob that a quick pass would not write."""
        return any(blob.data_memory.is_held for blob in self._between)

    def _spread_shapes(self, shapes: tuple[Shape, ...]) -> None:
        """Give all blobs the shapes that follow from those of the inputs, as layers would."""
        if self._spread == (shapes, [blob.shape for blob in self._between]):
            return
        for op in self._repeated:
            bottoms = [tuple(self._blobs[value.blob].shape) for value in op.bottoms]
            layer: Layer = op.layer  # type: ignore[assignment]
            with naming(op.step):
                tops = layer.top_shapes(*bottoms)
            for value, shape in zip(op.tops, tops, strict=True):
                self._blobs[value.blob].reshape(*shape)
        self._spread = shapes, [blob.shape for blob in self._between]

    def _program(self, shapes: tuple[Shape, ...]) -> Sequence[Instruction]:
        """The engine's program; one with frozen weights from the second pass of a kind on."""
        engine = self._net.engine
        if any(isinstance(op.layer, SourceLayer) for op in engine.plain_program):
            return engine.program  # batches may come in any shape
        if shapes not in self._seen:
            self._seen = [*self._seen[1 - _SHAPES_KEPT :], shapes]
            return engine.program
        if self._frozen is None:
            self._frozen = self._freeze()
        return self._frozen

    def _freeze(self) -> tuple[Instruction, ...]:
        from caffe_ssd.engines.accelerate import accelerated
        from caffe_ssd.engines.torch_engine import TorchEngine

        engine = self._net.engine
        if not all_finite(engine.parameters()):  # engines may turn NaN into 0
            return engine.program
        names = dict.fromkeys(engine.blob_names[value.blob] for value in self._wanted)
        made = accelerated(engine, TorchEngine, list(names))
        if made is None:
            return engine.program
        program, started = made
        started.shapes_kept = _SHAPES_KEPT
        return program


class _Recovered(BlobStore):
    """The blobs when a quick pass becomes real: with its inputs, whatever these hold by now.

    Args:
        blobs: the net's, by number.
        device: where the layers run.
        given: what the pass computed or was fed.
        shapes: of the blobs behind the pass; a blob that was reshaped since keeps its new shape.
        real: ids of the memories that hold what the pass computed.
    """

    def __init__(
        self,
        blobs: Sequence[Blob],
        device: torch.device,
        given: Mapping[Value, Tensor],
        shapes: Sequence[list[int]],
        real: Set[int],
    ) -> None:
        super().__init__(blobs, device)
        self._made = dict(given)
        self._shapes = shapes
        self._real = real

    def __getitem__(self, value: Value) -> Tensor:
        return self._made[value]

    def __setitem__(self, value: Value, top: Tensor) -> None:
        self._made[value] = top.detach()
        blob = self._blobs[value.blob]
        shape = blob.shape
        if id(blob.data_memory) not in self._real:
            super().__setitem__(value, top)
            if shape != self._shapes[value.blob]:
                blob.reshape(*shape)

    def __delitem__(self, value: Value) -> None:
        del self._made[value]


class _ParameterOnlooker:
    """Is told when a learnt blob's array is asked for."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def before_look(self, memory: Memory) -> None:
        self._tell()

    def after_look(self, memory: Memory, lease: object) -> None:
        """Arrays of learnt blobs are nobody's."""


class _CarefulRunner(Runner):
    """Runs layers one by one where an engine meets NaN, which follows other rules there."""

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        tops = super().call(op, bottoms)
        if not op.parts or all_finite((*bottoms, *tops)):
            return tops
        values = dict(zip(op.bottoms, bottoms, strict=True))
        Runner(self.context).run(op.parts, values, wanted=op.tops)
        return tuple(values[value] for value in op.tops)


def _may_repeat(op: Instruction) -> bool:
    """Whether a layer can be run once more with what it read, to the same effect."""
    return op.step.param.type != "Input" and bool(getattr(op.layer, "can_repeat", True))


def _is_harmless(op: Instruction) -> bool:
    """Whether a quick pass leaves nothing of the layer undone that somebody could see."""
    layer: Layer = op.layer  # type: ignore[assignment]
    leaves_scraps = type(layer).left_in_diffs is not Layer.left_in_diffs
    forgets = not _may_repeat(op) and bool(op.bottoms) and op.needs_backward
    return not (layer.running_state() or leaves_scraps or forgets)
