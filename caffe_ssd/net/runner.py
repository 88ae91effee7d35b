"""Runs the instructions of a net: the one place where a layer is called.

A program is a list of instructions (passes.py); a run takes the values they need to those they
make. Whoever wants to watch, to time, or to keep what a pass leaves behind overrides `call`; there
is no second loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caffe_ssd.errors import CaffeError
from caffe_ssd.layers.failures import NAMED, layer_fault
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.no_backward import name_maker
from caffe_ssd.net.plan import Value, named

_UNCHANGED: AbstractContextManager[None] = nullcontext()


class LossTerm(NamedTuple):
    """One top that counts in the loss."""

    value: Value
    weight: float
    top: Tensor


class Runner:
    """Runs programs in one context.

    Args:
        context: of one pass; it learns the batch size from what the sources make.

    Attributes:
        sources: what layers without bottoms made, with which the pass can be repeated.
    """

    def __init__(self, context: RunContext) -> None:
        self.context = context
        self.sources: dict[Value, Tensor] = {}

    def run(
        self,
        program: Sequence[Instruction],
        values: MutableMapping[Value, Tensor],
        *,
        wanted: Collection[Value] = (),
        fed: Mapping[Value, Tensor] | None = None,
    ) -> list[LossTerm]:
        """Run a program.

        Args:
            program: the instructions in order.
            values: what they need from outside; gets what they make, and loses what is used up.
            wanted: values to keep, whoever has read them.
            fed: what takes the place of tops of sources.

        Returns:
            The tops with a loss weight.

        Raises:
            CaffeError: a layer cannot take its bottoms; the layer is named.
        """
        terms: list[LossTerm] = []
        for op in program:
            if op.bottoms or not fed:
                tops = self.call(op, _bottoms(op, values))
            else:
                tops = self.source(op, fed)
            if not op.bottoms:
                self.sources.update(
                    (v, t) for v, t in zip(op.tops, tops, strict=True) if not t.requires_grad
                )
            for value, top, weight in zip(op.tops, tops, op.loss_weights, strict=True):
                values[value] = top
                if weight:
                    terms.append(LossTerm(value, weight, top))
            for value in op.last_uses:
                if value not in wanted:
                    del values[value]
        return terms

    def source(self, op: Instruction, fed: Mapping[Value, Tensor]) -> tuple[Tensor, ...]:
        """The tops of a source: what is fed; the source runs only if it has tops that are not."""
        given = [fed.get(value) for value in op.tops]
        if all(top is None for top in given):
            return self.call(op, ())
        made = self.make(op, ()) if any(top is None for top in given) else ()
        return self.context.received([m if g is None else g for m, g in zip_longest(made, given)])

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One instruction; to override."""
        return self.make(op, bottoms)

    def make(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make one instruction's tops, with gradients as far as it takes part in the backward pass.

        Raises:
            CaffeError: the layer cannot take its bottoms; it is named.
        """
        takes_part = torch.is_grad_enabled() and op.needs_backward
        try:
            with _grad_enabled(takes_part), self.context.precision():
                tops = call_layer(op.layer, bottoms, self.context)
        except CaffeError as error:
            better = named(error, op.step)
            if better is error:
                raise
            raise better from error
        except NAMED as error:
            if op.step.param.type == "Python":  # the user's own code: its traceback is the help
                raise
            fault = layer_fault(error, [bottom.shape for bottom in bottoms], "run with")
            raise named(fault, op.step) from error
        if not op.bottoms:
            tops = self.context.received(tops)
        return name_maker(tops, op.step) if takes_part else tops


def call_layer(
    layer: nn.Module, bottoms: Sequence[Tensor], context: RunContext
) -> tuple[Tensor, ...]:
    """A layer's tops, in this context if it wants to know it."""
    given = {"context": context} if getattr(layer, "takes_context", False) else {}
    made: Tensor | tuple[Tensor, ...] = layer(*bottoms, **given)
    return (made,) if isinstance(made, Tensor) else tuple(made)


def running_state(program: Sequence[Instruction]) -> list[Tensor]:
    """The tensors that a run of the program changes, such as running statistics."""
    return [x for op in program for x in getattr(op.layer, "running_state", tuple)()]


def statistics_kept(
    program: Sequence[Instruction], *, when: bool = True
) -> AbstractContextManager[None]:
    """Undo what the block adds to running statistics: they count a batch once."""
    return state_kept(running_state(program), when=when)


@contextmanager
def state_kept(state: Sequence[Tensor], *, when: bool = True) -> Iterator[None]:
    """Undo what the block does to some tensors."""
    state = state if when else ()
    before = [x.detach().clone() for x in state]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, old in zip(state, before, strict=True):
                x.copy_(old)


def _bottoms(op: Instruction, values: Mapping[Value, Tensor]) -> list[Tensor]:
    """What an instruction reads; bottoms that receive no gradient are cut off."""
    return [
        values[value] if flag or not torch.is_grad_enabled() else values[value].detach()
        for value, flag in zip(op.bottoms, op.propagate_down, strict=True)
    ]


def _grad_enabled(wanted: bool) -> AbstractContextManager[object]:
    """A block with or without gradients; nothing where that is so already."""
    return _UNCHANGED if wanted == torch.is_grad_enabled() else torch.set_grad_enabled(wanted)
