"""A net in phase TEST with its weights as they are now: the program that engines run.

    Net -> skip copies -> fold -> fuse -> FrozenNet

A FrozenNet is an ordinary module from input tensors to output tensors. It is made again when
weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from caffe_ssd.engines.folding import Program, freeze_affine, fuse_relu, multiply_out, skip_copies
from caffe_ssd.engines.frozen_layers import FrozenMaxPool
from caffe_ssd.errors import NetError
from caffe_ssd.layers.input import Input
from caffe_ssd.layers.pooling import Pooling
from caffe_ssd.layers.registry import Shape, SourceLayer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.layers.silence import Silence
from caffe_ssd.net import Net
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.passes import plain_program
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import Runner

Pass = Callable[[Program, Collection[Value]], Sequence[Instruction]]
NamedValues = tuple[tuple[str, Value], ...]


class FrozenNet(nn.Module):
    """See the module's docstring.

    Args:
        program: the calls in order.
        inputs: names and values that the caller feeds.
        outputs: names and values that are returned.
        shapes: of all values, where the net was made for inputs of certain shapes.
    """

    def __init__(
        self,
        program: Program,
        inputs: NamedValues,
        outputs: NamedValues,
        shapes: Mapping[Value, Shape] | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.shapes = {} if shapes is None else shapes
        self.program = with_last_uses(program)
        # Registered so that .to(), state_dict() and compilers find the tensors.
        self.calls = nn.ModuleList(op.layer for op in self.program)

    @property
    def wanted(self) -> tuple[Value, ...]:
        """The values that are returned."""
        return tuple(value for _, value in self.outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = self._fed(inputs)
        Runner(_context(inputs)).run(self.program, values, wanted=self.wanted)
        return tuple(values[value] for value in self.wanted)

    def _fed(self, inputs: Sequence[Tensor]) -> dict[Value, Tensor]:
        return {value: given for (_, value), given in zip(self.inputs, inputs, strict=True)}

    def rewritten(self, *passes: Pass) -> FrozenNet:
        """The net after further passes."""
        program: Program = self.program
        for rewrite in passes:
            program = rewrite(program, self.wanted)
        return FrozenNet(program, self.inputs, self.outputs, self.shapes)

    def specialised(self, *inputs: Tensor, folds: bool = True) -> FrozenNet:
        """The net for inputs of these shapes: what depends on shapes alone becomes constant.

        Priors are such values, and everything made of priors only.

        Args:
            inputs: of these shapes.
            folds: whether it does so; without, calls are only fitted to the shapes.

        Raises:
            LayerError: a layer cannot take the shapes it meets.
        """
        runner = _Specialiser(_context(inputs), folds)
        runner.run(self.program, self._fed(inputs), wanted=self.wanted)
        program = needed(runner.program, self.wanted)
        return FrozenNet(program, self.inputs, self.outputs, runner.shapes)

    def split(self, takes: Callable[[Instruction], bool]) -> tuple[FrozenNet, FrozenNet]:
        """Two nets that run one after the other.

        Args:
            takes: whether the first net may contain this call.

        Returns:
            The net of all calls that `takes` accepts and whose bottoms come from such calls, and
            the net of the rest. The second takes the outputs of the first, then its inputs.
        """
        inside = {value for _, value in self.inputs}
        first, second = [], []
        for op in self.program:
            if isinstance(op.layer, Constant):
                inside.update(op.tops)
                first.append(op)
                second.append(op)
            elif takes(op) and inside.issuperset(op.bottoms):
                inside.update(op.tops)
                first.append(op)
            else:
                second.append(op)
        tail = needed(second, self.wanted)
        made = {value for op in tail for value in op.tops}
        read = [value for op in tail for value in op.bottoms]
        given = [value for _, value in self.inputs]
        crossing = [v for v in dict.fromkeys((*read, *self.wanted)) if v not in (*made, *given)]
        between = tuple((f"{value.blob}.{value.version}", value) for value in crossing)
        head = FrozenNet(needed(first, crossing), self.inputs, between, self.shapes)
        return head, FrozenNet(tail, between + self.inputs, self.outputs, self.shapes)

    def converted(self, dtype: torch.dtype) -> FrozenNet:
        """The net with its weights in another type; constants, such as priors, keep theirs."""
        program = [
            op
            if isinstance(op.layer, Constant)
            else replace(op, layer=deepcopy(op.layer).to(dtype))
            for op in multiply_out(self.program, self.wanted)
        ]
        return FrozenNet(program, self.inputs, self.outputs, self.shapes)

    def without_unread_inputs(self) -> FrozenNet:
        """The net that is fed only what it reads."""
        read = {value for op in self.program for value in op.bottoms} | set(self.wanted)
        inputs = tuple((name, value) for name, value in self.inputs if value in read)
        return FrozenNet(self.program, inputs, self.outputs, self.shapes)


def _context(inputs: Sequence[Tensor]) -> RunContext:
    """Weights and modes are in the program; inputs come as its calls want them."""
    return RunContext(device=inputs[0].device if inputs else torch.device("cpu"))


class _Specialiser(Runner):
    """Runs a program and writes down the one for inputs of the same shapes."""

    def __init__(self, context: RunContext, folds: bool) -> None:
        super().__init__(context)
        self._folds = folds
        self.program: list[Instruction] = []
        self.shapes: dict[Value, Shape] = {}
        self._fixed: set[Value] = set()

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        self._note_shapes(op.bottoms, bottoms)
        op = replace(op, layer=_fitted(op.layer, [self.shapes[value] for value in op.bottoms]))
        tops = super().call(op, bottoms)
        self._note_shapes(op.tops, tops)
        by_shapes = isinstance(op.layer, Constant) or getattr(op.layer, "reads_only_shapes", False)
        if self._folds and (by_shapes or (op.bottoms and self._fixed.issuperset(op.bottoms))):
            self._fixed.update(op.tops)
            op = replace(
                op, layer=Constant(*tops), bottoms=(), propagate_down=(), needs_backward=False
            )
        self.program.append(op)
        return tops

    def _note_shapes(self, values: Sequence[Value], tensors: Sequence[Tensor]) -> None:
        self.shapes.update((v, tuple(x.shape)) for v, x in zip(values, tensors, strict=True))


def _fitted(layer: nn.Module, bottoms: Sequence[Shape]) -> nn.Module:
    """The quickest module for bottoms of these shapes."""
    if isinstance(layer, Pooling) and layer.is_native_max(bottoms[0]):
        return FrozenMaxPool(layer.window_for(bottoms[0]))
    return layer


class Constant(nn.Module):
    """Tops that never change."""

    def __init__(self, *tops: Tensor) -> None:
        super().__init__()
        for i, top in enumerate(tops):
            self.register_buffer(f"top{i}", top)

    def forward(self) -> tuple[Tensor, ...]:
        return tuple(self.buffers())


def freeze(net: Net, outputs: Collection[str] | None = None) -> FrozenNet:
    """Rewrite a net for inference.

    Args:
        net: in phase TEST. What its Input and data layers make is fed by the caller.
        outputs: names of the wanted blobs; None for the net's outputs.

    Raises:
        NetError: the net is in phase TRAIN, or has no such blob.
    """
    if net.is_train:
        raise NetError("only a net in phase TEST can be frozen; this one is in phase TRAIN")
    names = tuple(net.outputs if outputs is None else outputs)
    wanted = [net.final_value(name) for name in names]
    program: Program = needed(plain_program(net.steps, net.layers), wanted)
    inputs = [value for op in program if not op.bottoms for value in op.tops if is_fed(op)]
    program = [op for op in program if not is_fed(op)]
    for rewrite in (skip_copies, freeze_affine, fuse_relu):
        program = rewrite(program, wanted)
    return FrozenNet(
        program,
        tuple((net.blob_names[value.blob], value) for value in inputs),
        tuple(zip(names, wanted, strict=True)),
    )


def is_fed(op: Instruction) -> bool:
    """Whether a call of the whole net makes what a frozen net is fed."""
    return isinstance(op.layer, Input | SourceLayer)


def needed(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """The calls that the wanted values depend on, and those that write files."""
    reached = set(wanted)
    kept = []
    for op in reversed(program):
        if reached & set(op.tops) or not (op.tops or isinstance(op.layer, Silence)):
            reached.update(op.bottoms)
            kept.append(op)
    return tuple(reversed(kept))
