"""Captures a training pass as a CUDA graph, and replays it for every further batch.

    read      sources run, and what layers make on the host of labels is made
    fill      both are copied to where the graph reads them
    replay    forward and backward at one call; gradients add to what is there

Captured is a pass that has run as usual a few times, on the numbers of the training itself. In a
replay no layer is called: whatever the host decided while capturing stays decided. So layers that
keep something on the host are refused, layers that ask the device cannot be captured, and the first
replay of a graph, with another batch than the captured one, and later every `CHECK_EVERY`-th is
compared with the same pass run as usual.

Batches of other shapes have graphs of their own. Ground truth is padded to few lengths for that;
padding matches nothing, so it changes no number.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_ssd.errors import CaffeError, NetError, first_line
from caffe_ssd.layers.host_work import HostMade, HostStep, HostWork, placed
from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.run_context import Groups, RunContext
from caffe_ssd.layers.split import Split
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.plan import Value
from caffe_ssd.net.replay_check import ReplayCheck
from caffe_ssd.net.result import NetResult
from caffe_ssd.net.runner import Runner

if TYPE_CHECKING:
    from caffe_ssd.net.net import Net

logger = logging.getLogger(__name__)

WARM_UP = 3  # passes as usual before one is captured: kernels are chosen, constants are made
MOST_GRAPHS = 12  # further shapes run as usual
CHECK_EVERY = 1000  # replays
_LEAST_LENGTH = 8  # what is made on the host is padded to this, or twice, four times, ... as much

_Key = tuple[Groups | None, tuple[tuple[Value, torch.Size, torch.dtype], ...]]


@dataclass(kw_only=True)
class _Batch:
    """What sources made for a pass.

    Args:
        context: in which they ran.
        work: of the context.
        tops: theirs, on the device.
    """

    context: RunContext
    work: HostWork
    tops: dict[Value, Tensor]


@dataclass(kw_only=True)
class _Graph:
    """A captured pass.

    Args:
        graph: the graph.
        given: where it reads what is made on the host.
        result: where it leaves the loss and the outputs.
        replays: how often it has been replayed.
    """

    graph: torch.cuda.CUDAGraph
    given: Sequence[HostMade]
    result: NetResult
    replays: int = 0


@dataclass(kw_only=True)
class _Kind:
    """Batches of one shape.

    Args:
        passes: how many have run.
        steps: what a pass makes on the host.
        inputs: where graphs read the tops of sources.
        graphs: by the length of what is made on the host.
    """

    passes: int = 0
    steps: Sequence[HostStep] = ()
    inputs: dict[Value, Tensor] = field(default_factory=dict)
    graphs: dict[int, _Graph] = field(default_factory=dict)


class CapturedPasses:
    """The training passes of a net on a CUDA device; see the module's docstring.

    Gradients stay where they are from now on: `Net.clear_diffs` sets them to 0.

    Args:
        net: on its device, with all its modes chosen.

    Raises:
        NetError: a layer keeps on the host what the next pass depends on; it is named. Or the net
            is not on a CUDA device.
    """

    def __init__(self, net: Net) -> None:
        if net.device.type != "cuda":
            raise NetError(f"CUDA graphs need a CUDA device, and net {net.name!r} is elsewhere")
        _check_layers(net.plain_program)
        self._net = net
        self._device = net.device
        self._is_read = _read_on_device(net)
        self._sources = tuple(op for op in net.program if _is_source(op))
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._check = ReplayCheck(net)
        self._kinds: dict[_Key, _Kind] = {}
        self._places: list[int] = []
        self._has_told = False
        net.keep_diffs = True

    @property
    def num_graphs(self) -> int:
        """How many graphs there are."""
        return sum(len(kind.graphs) for kind in self._kinds.values())

    def forward_backward(self, inputs: Mapping[str, Tensor] | None = None) -> NetResult:
        """One pass that adds to the gradients.

        Args:
            inputs: see `Net.forward`.

        Raises:
            NetError: the pass cannot be captured, or a replay gives other numbers.
            CaffeError: see `Net.forward`.
        """
        self._keep_in_place()
        batch = self._read({} if inputs is None else inputs)
        read = ((v, top.shape, top.dtype) for v, top in batch.tops.items() if v in self._is_read)
        kind = self._kinds.setdefault((self._net.groups, tuple(read)), _Kind())
        kind.passes += 1
        if kind.passes == 1:
            result = self._as_usual(batch, batch.context)
            kind.steps = batch.work.steps
            return result
        try:
            made, length = _made(kind.steps, batch.context)
        except CaffeError:  # once more by the layer itself, which is named then
            return self._as_usual(batch, batch.context)
        given = [placed(each.padded(length), self._device) for each in made]
        is_plain = all(each.is_plain for each in made)
        if is_plain and length in kind.graphs:
            return self._replay(kind, kind.graphs[length], batch, given)
        result = self._as_usual(batch, self._context(given))
        if is_plain and kind.passes >= WARM_UP and self._has_room():
            kind.graphs[length] = self._capture(kind, batch, given)
        return result

    def _has_room(self) -> bool:
        if self.num_graphs < MOST_GRAPHS:
            return True
        if not self._has_told:
            logger.warning(
                "The batches have more than %d shapes: those of further ones are not captured as "
                "CUDA graphs",
                MOST_GRAPHS,
            )
        self._has_told = True
        return False

    # As usual ------------------------------------------------------------------------------------

    def _read(self, inputs: Mapping[str, Tensor]) -> _Batch:
        net = self._net
        fed = {Value(net.blob_names.index(name), 0): given for name, given in inputs.items()}
        context, work = net.context(), HostWork(steps=[])
        context.host_work = work
        values: dict[Value, Tensor] = {}
        wanted = [value for op in self._sources for value in op.tops]
        Runner(context).run(self._sources, values, wanted=wanted, fed=fed)
        return _Batch(context=context, work=work, tops=values)

    def _context(self, given: Sequence[HostMade]) -> RunContext:
        context = self._net.context()
        context.host_work = HostWork(steps=[], given=iter(given))
        return context

    def _pass(self, tops: Mapping[Value, Tensor], context: RunContext) -> NetResult:
        """A pass behind its sources; nothing keeps its graph of gradients afterwards."""
        result = self._net.repeat(tops, Runner(context.putting_off()))
        if result.loss.requires_grad:
            result.loss.backward()  # type: ignore[no-untyped-call]
        return result.detached()

    def _as_usual(self, batch: _Batch, context: RunContext) -> NetResult:
        """On the stream that captures: what autograd keeps of a stream must not be another's."""
        here = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            result = self._pass(batch.tops, context)
        here.wait_stream(self._stream)
        return result

    def _keep_in_place(self) -> None:
        """Let gradients be where graphs expect them; forget graphs where blobs have moved."""
        net = self._net
        learning = [entry.blob for entry in net.learnable if entry.blob.requires_grad]
        for blob in learning:
            if blob.grad is None:
                blob.grad = torch.zeros_like(blob)
        net.tie_diffs()
        kept = [entry.blob for entry in net.learnable] + [_grad(blob) for blob in learning]
        places = [x.data_ptr() for x in kept]
        if places != self._places:
            self._kinds.clear()
        self._places = places

    # As a graph ----------------------------------------------------------------------------------

    def _capture(self, kind: _Kind, batch: _Batch, given: Sequence[HostMade]) -> _Graph:
        """Record the pass; nothing of it is run."""
        for value, top in batch.tops.items():
            kind.inputs.setdefault(value, top.clone())
        kept = [each.with_tensors(*(x.clone() for x in each.tensors())) for each in given]
        graph = torch.cuda.CUDAGraph()
        # Threads that load data may call what would be refused in the one that captures.
        with (
            _explained(),
            torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            ),
        ):
            result = self._pass(kind.inputs, self._context(kept))
        return _Graph(graph=graph, given=kept, result=result)

    def _replay(
        self, kind: _Kind, graph: _Graph, batch: _Batch, given: Sequence[HostMade]
    ) -> NetResult:
        pairs = [(kind.inputs[v], top) for v, top in batch.tops.items() if v in self._is_read]
        for kept, fresh in zip(graph.given, given, strict=True):
            pairs += zip(kept.tensors(), fresh.tensors(), strict=True)
        for there, here in pairs:
            there.copy_(here, non_blocking=True)

        def replayed() -> NetResult:
            graph.graph.replay()
            return graph.result.copied()

        is_checked = graph.replays % CHECK_EVERY == 0
        if is_checked:
            result, was_told = self._check.compared(
                replayed, lambda: self._as_usual(batch, self._context(given))
            )
            graph.replays += was_told
        else:
            result = replayed()
            graph.replays += 1
        return result.of(batch.tops, self._net.groups)


def _made(steps: Sequence[HostStep], context: RunContext) -> tuple[list[HostMade], int]:
    """What is made on the host for a batch, and the length to which it is padded."""
    made = [step.make(context.sent(step.source)) for step in steps]
    length = _LEAST_LENGTH
    while length < max((each.length for each in made), default=0):
        length *= 2
    return made, length


def _is_source(op: Instruction) -> bool:
    return not op.bottoms and not op.needs_backward


def _check_layers(program: Sequence[Instruction]) -> None:
    for op in program:
        layer = op.layer
        assert isinstance(layer, Layer)
        if not _is_source(op) and not (layer.can_repeat or layer.draws_on_device):
            raise NetError(
                f"layer {op.step.param.name!r} ({op.step.param.type}) cannot be part of a CUDA "
                "graph: what its code does or keeps on the host would be left out of all further "
                "passes; leave -cuda_graph out"
            )


def _read_on_device(net: Net) -> set[Value]:
    """Values that are read otherwise than by `RunContext.from_host`."""
    found = {net.final_value(name) for name in net.outputs}
    for op in reversed(net.plain_program):
        layer = op.layer
        assert isinstance(layer, Layer)
        if isinstance(layer, Split) and found.isdisjoint(op.tops):
            continue
        found.update(v for i, v in enumerate(op.bottoms) if i != layer.reads_boxes)
    return found


def _grad(blob: Tensor) -> Tensor:
    assert blob.grad is not None
    return blob.grad


@contextmanager
def _explained() -> Iterator[None]:
    """Say in one line that something cannot be captured.

    Raises:
        NetError: it cannot.
    """
    try:
        yield
    except RuntimeError as error:
        # Ending a capture that failed raises an error, too; the first one tells the layer.
        first: BaseException = error
        while first.__context__ is not None and not isinstance(first, CaffeError):
            first = first.__context__
        raise NetError(
            f"the training pass cannot be captured as a CUDA graph: {first_line(first)}; leave "
            "-cuda_graph out"
        ) from error
