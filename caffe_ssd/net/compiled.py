"""Compiles what a net trains between its data and its losses, forward and backward.

    forward     one call of a generated kernel for all layers of a part
    backward    likewise, generated with it

What torch.compile joins into one loop need not travel through memory between layers. Parts consist
of layers that are tensor operations of fixed shapes and nothing else; data layers, priors and
losses stay as they are, and so do passes without gradients. Sums are rounded otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_ssd.errors import NetError, first_line
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.joined import JoinedLayers, joined
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import call_layer

if TYPE_CHECKING:
    from caffe_ssd.net.net import Net

# Tensor operations without randomness, and worth a kernel.
_TYPES = (
    *("AbsVal", "BatchNorm", "Bias", "Concat", "Convolution", "Deconvolution", "ELU", "Eltwise"),
    *(
        "DepthwiseConvolution",
        "Flatten",
        "InnerProduct",
        "Normalize",
        "PReLU",
        "Permute",
        "Pooling",
    ),
    *("Power", "ReLU", "ReLU6", "Reshape", "Scale", "Sigmoid", "Slice", "Softmax", "Split", "TanH"),
)


class CompiledPart(JoinedLayers):
    """Some instructions as one compiled function."""

    def __init__(
        self, program: Sequence[Instruction], bottoms: Sequence[Value], tops: Sequence[Value]
    ) -> None:
        super().__init__(program, bottoms, tops)
        values = dict.fromkeys([*bottoms, *(v for op in program for v in op.tops)])
        # Numbers in place of values: nothing is left for the tracer but calls of layers.
        self._place = {value: i for i, value in enumerate(values)}
        self._compiled = torch.compile(self._run, dynamic=False, fullgraph=True)

    def forward(self, *bottoms: Tensor, context: RunContext) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            with _explained():
                # What is put off would be a list that grows: nothing for a tracer.
                tops: tuple[Tensor, ...] = self._compiled(bottoms, replace(context, sums=None))
            return tops
        return self.one_by_one(bottoms, context)

    def _run(self, bottoms: tuple[Tensor, ...], context: RunContext) -> tuple[Tensor, ...]:
        place, values = self._place, dict(enumerate(bottoms))
        for op in self.program:
            given = [
                values[place[v]] if flag else values[place[v]].detach()
                for v, flag in zip(op.bottoms, op.propagate_down, strict=True)
            ]
            for value, top in zip(op.tops, call_layer(op.layer, given, context), strict=True):
                values[place[value]] = top
        return tuple(values[place[value]] for value in self.tops)


@contextmanager
def _explained() -> Iterator[None]:
    """Say in one line that something cannot be compiled; layers' own faults pass.

    Raises:
        NetError: it cannot.
    """
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # takes long to import

        if not isinstance(error, TorchDynamoException):
            raise
        raise NetError(
            f"the net cannot be compiled ({first_line(error)}); train it uncompiled"
        ) from error


def use_compiled_parts(net: Net) -> int:
    """Compile what lies between a net's data and losses, at its first pass with gradients.

    Returns:
        How many calls of layers are compiled.
    """
    net.program = with_compiled_parts(net.program)
    parts = [op.layer for op in net.program if isinstance(op.layer, CompiledPart)]
    return sum(len(part.program) for part in parts)


def with_compiled_parts(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """A program of which all that can be compiled together is.

    What cannot be compiled is put off until somebody in the part would need it: priors, for one,
    stand between the layers of a head in the file, and nothing but the loss reads them.
    """
    result: list[Instruction] = []
    part: list[Instruction] = []
    put_off: list[Instruction] = []
    awaited: set[Value] = set()  # tops of what is put off

    def close() -> None:
        result.extend(_compiled(part, program))
        result.extend(put_off)
        part.clear()
        put_off.clear()
        awaited.clear()

    for op in program:
        if not _can_compile(op):
            if not op.bottoms:  # a source: it runs first
                result.append(op)
                continue
            put_off.append(op)
            awaited.update(op.tops)
            continue
        if awaited.intersection(op.bottoms):
            close()
        part.append(op)
    close()
    return with_last_uses(result)


def _compiled(part: Sequence[Instruction], program: Sequence[Instruction]) -> list[Instruction]:
    if len(part) < 2:
        return list(part)
    mine = {id(op) for op in part}
    behind = {v for op in program if id(op) not in mine for v in op.bottoms}
    return [joined(CompiledPart, part, behind)]


def _can_compile(op: Instruction) -> bool:
    parts = op.parts or (op,)
    known = all(part.step.param.type in _TYPES for part in parts)
    return known and op.needs_backward and not any(op.loss_weights)
