"""Looks on while a net runs, without changing a number.

A watched pass is the pass itself, with the same program, precision and memory format; autograd's
hooks tell of diffs. What lies inside a call that stands for several layers is computed once more
beside it, part by part, and thrown away when it has been seen.

    runner = WatchingRunner(net.context(), watcher, uses_of_blobs(net.layers))
    loss = net(runner=runner).loss            tells of every top, in order
    loss.backward()                           tells of every bottom's diff when it arises
    runner.tell_learnt(net.steps, net.layers) tells of the diffs of learnt blobs

Quirk: where BatchNorm layers share their statistics with other devices, what lies inside a call is
    told with those of this device alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net.blob_copy import identity
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.layerwise import blobs_of, leaves_of
from caffe_ssd.net.plan import Step, Value
from caffe_ssd.net.runner import Runner, statistics_kept


class Watcher:
    """Is told what passes by; does nothing by itself. It must not change what it is given."""

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        """A layer has written its tops; called in the order of the net."""

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        """The diffs of a layer's bottoms, None for those that receive none.

        Called in the order in which they arise, which is not that of the net where branches are
        independent; never for a layer that no gradient reaches.
        """

    def learnt(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        """The diffs of a layer's learnt blobs as they were after its backward pass.

        Called for every layer that takes part, the last one first, when the diffs of all are known.
        """


class WatchingRunner(Runner):
    """Runs a program and tells a watcher.

    Args:
        context: of the pass.
        watcher: who is told.
        uses: see `uses_of_blobs`.
    """

    def __init__(
        self, context: RunContext, watcher: Watcher, uses: Mapping[int, int] | None = None
    ) -> None:
        super().__init__(context)
        self._watcher = watcher
        self._uses = {} if uses is None else uses
        self.shares: dict[tuple[str, int], Tensor] = {}  # of shared blobs: what each layer adds

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        takes_part = torch.is_grad_enabled() and op.needs_backward
        if takes_part and not op.parts:
            bottoms = _gated(_able_to_receive(op, bottoms), partial(self._tell_backward, op))
        tops = super().call(op, bottoms)
        with torch.no_grad():
            self._tell_forward(op, bottoms, tops)
        if takes_part and (op.parts or self._has_shared_blobs(op)):
            tops = _gated(tops, partial(self._repeat, op, tuple(bottoms)))
        return tops

    def source(self, op: Instruction, fed: Mapping[Value, Tensor]) -> tuple[Tensor, ...]:
        tops = super().source(op, fed)
        if not fed.keys().isdisjoint(op.tops):
            with torch.no_grad():
                self._tell_forward(op, (), tops)
        return tops

    def tell_learnt(self, steps: Sequence[Step], layers: Sequence[Layer]) -> None:
        """Tell of the diffs of learnt blobs, as each was when its layer had run backward.

        Args:
            steps: the whole net's, after its backward pass.
            layers: their modules.
        """
        told = []
        missing: dict[int, Tensor] = {}  # by memory: what the layers so far add to its diff
        for step, layer in zip(steps, layers, strict=True):
            diffs = []
            for i, blob in enumerate(layer.blobs):
                key = identity(blob)
                grad, later = blob.grad, missing.get(key)
                diffs.append(grad if grad is None or later is None else grad - later.view_as(grad))
                share = self.shares.get((step.param.name, i))
                if share is not None:
                    missing[key] = share if later is None else later + share.view_as(later)
            told.append((step, layer, diffs))
        for step, layer, diffs in reversed(told):
            if step.needs_backward:
                self._watcher.learnt(step, layer, diffs)

    def _has_shared_blobs(self, op: Instruction) -> bool:
        return any(self._uses.get(identity(blob), 0) > 1 for blob in blobs_of(op.layer))

    def _tell_forward(
        self, op: Instruction, bottoms: Sequence[Tensor], tops: Sequence[Tensor]
    ) -> None:
        if not op.parts:
            self._watcher.forward(op.step, op.layer, tops)  # type: ignore[arg-type]
            return
        real = dict(zip(op.tops, tops, strict=True))
        inside = _Inside(self.context, self._watcher, real)
        with _rehearsal(op.parts):
            inside.run(op.parts, dict(zip(op.bottoms, bottoms, strict=True)), wanted=op.tops)

    def _tell_backward(self, op: Instruction, diffs: Sequence[Tensor | None]) -> None:
        self._watcher.backward(op.step, op.layer, diffs)  # type: ignore[arg-type]

    def _repeat(
        self, op: Instruction, bottoms: Sequence[Tensor], top_diffs: Sequence[Tensor | None]
    ) -> None:
        """Run a call once more, forward and backward, to see what its diffs hide."""
        program = op.parts or (op,)
        inside = WatchingRunner(
            self.context, _BackwardOnly(self._watcher if op.parts else Watcher())
        )
        with torch.enable_grad(), _rehearsal(program):
            leaves = leaves_of(op, bottoms)
            values = dict(zip(op.bottoms, leaves, strict=True))
            inside.run(program, values, wanted=op.tops)
            self._differentiate(program, [values[v] for v in op.tops], top_diffs, leaves)

    def _differentiate(
        self,
        program: Sequence[Instruction],
        tops: Sequence[Tensor],
        top_diffs: Sequence[Tensor | None],
        leaves: Sequence[Tensor],
    ) -> None:
        """Run backward through what was repeated; gates tell, and shared blobs note their part."""
        roots = [(t, d) for t, d in zip(tops, top_diffs, strict=True) if d is not None]
        named = [
            (part.step.param.name, i, blob)
            for part in program
            for i, blob in enumerate(blobs_of(part.layer))
            if blob.requires_grad
        ]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        blobs = [blob for _, _, blob in named]
        if not roots or not (wanted or blobs):
            return
        found = torch.autograd.grad(
            [top for top, _ in roots],
            [*wanted, *blobs],
            [diff for _, diff in roots],
            allow_unused=True,
        )
        for (name, i, blob), diff in zip(named, found[len(wanted) :], strict=True):
            if diff is not None and self._uses.get(identity(blob), 0) > 1:
                self.shares[name, i] = diff


class _Inside(Runner):
    """Tells of the tops inside a call; its own tops are told as they really are."""

    def __init__(self, context: RunContext, watcher: Watcher, real: Mapping[Value, Tensor]) -> None:
        super().__init__(context)
        self._watcher = watcher
        self._real = real

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        tops = super().call(op, bottoms)
        real = tuple(self._real.get(value, top) for value, top in zip(op.tops, tops, strict=True))
        if op.parts:
            values = dict(zip(op.bottoms, bottoms, strict=True))
            inner = dict(zip(op.tops, real, strict=True))
            with _rehearsal(op.parts):
                _Inside(self.context, self._watcher, inner).run(op.parts, values, wanted=op.tops)
        else:
            self._watcher.forward(op.step, op.layer, real)  # type: ignore[arg-type]
        return tops


class _BackwardOnly(Watcher):
    """Passes on what concerns the backward pass; the forward pass was told before."""

    def __init__(self, watcher: Watcher) -> None:
        self.backward = watcher.backward  # type: ignore[method-assign]


def uses_of_blobs(layers: Sequence[Layer]) -> Mapping[int, int]:
    """How often each learnt blob is used, by its identity."""
    return Counter(identity(blob) for layer in layers for blob in layer.blobs)


@contextmanager
def _rehearsal(program: Sequence[Instruction]) -> Iterator[None]:
    """Let layers run once more as if nothing had happened, and without waiting for peers."""
    with ExitStack() as stack, statistics_kept(program):
        for op in program:
            stack.enter_context(_alone(op.layer))
        yield


@contextmanager
def _alone(layer: nn.Module) -> Iterator[None]:
    """Keep a layer from computing together with other devices."""
    peers = getattr(layer, "peers", None)
    if peers is None:
        yield
        return
    layer.peers = None  # type: ignore[assignment]
    try:
        yield
    finally:
        layer.peers = peers


def _gated(
    values: Sequence[Tensor], tell: Callable[[Sequence[Tensor | None]], None]
) -> tuple[Tensor, ...]:
    """The values, arranged so that their diffs are told once all of them have arrived.

    `tell` gets None for a value that receives no diff.
    """
    open_ = [i for i, value in enumerate(values) if value.requires_grad]
    count = len(values)  # the values themselves must not be held by their own graph

    def tell_all(diffs: Sequence[Tensor | None]) -> None:
        found = dict(zip(open_, diffs, strict=True))
        tell([found.get(i) for i in range(count)])

    if not open_:
        return tuple(values)
    gated = _Gate.apply(tell_all, *(values[i] for i in open_))  # type: ignore[no-untyped-call]
    passed = dict(zip(open_, gated, strict=True))
    return tuple(passed.get(i, value) for i, value in enumerate(values))


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tell: Callable[..., None], *values: Tensor) -> tuple[Tensor, ...]:
        ctx.tell = tell
        ctx.set_materialize_grads(False)
        return tuple(value.view_as(value) for value in values)

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.tell(diffs)
        return (None, *diffs)


def _able_to_receive(op: Instruction, bottoms: Sequence[Tensor]) -> list[Tensor]:
    """The bottoms; those whose diff nobody else wants can receive one nevertheless."""
    return [
        bottom.detach().requires_grad_() if flag and not bottom.requires_grad else bottom
        for bottom, flag in zip(bottoms, op.propagate_down, strict=True)
    ]
