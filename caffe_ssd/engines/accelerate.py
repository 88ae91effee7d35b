"""Lets an engine run the greater part of a net in phase TEST, behind the net's own face.

    before    data -> layer -> layer -> ... -> DetectionOutput -> DetectionEvaluate
    after     data -> engine                -> DetectionOutput -> DetectionEvaluate

The net is used as before; blobs inside the engine's part are there for those who `keep` them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from torch import Tensor, nn

from caffe_ssd.engines.auto_engine import AutoEngine
from caffe_ssd.engines.compiled_engine import CompiledEngine
from caffe_ssd.engines.engine import FLOAT, Engine
from caffe_ssd.engines.frozen_net import FrozenNet, freeze, is_fed
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.precision import Precision
from caffe_ssd.engines.torch_engine import TorchEngine
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.passes import plain_program

ENGINES: dict[str, type[Engine]] = {
    kind.name: kind
    for kind in (AutoEngine, TorchEngine, CompiledEngine, OnnxRuntimeEngine, OpenVinoEngine)
}


class EngineCall(nn.Module):
    """An engine in the place of layers."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return self.engine(*bottoms)


def accelerate(
    net: Net, engine: str = AutoEngine.name, precision: Precision = FLOAT
) -> Engine | None:
    """Hand the layers in front of detection output and losses to an engine.

    Args:
        net: in phase TEST, with its final weights on its final device; it gets another program.
            After a change of weights it needs another call.
        engine: a name of `ENGINES`.
        precision: how to calculate.

    Returns:
        The engine, or None where the net has no layer to hand over.

    Raises:
        UsageError: there is no such engine, it is not installed, or not made for the precision.
        NetError: the net is in phase TRAIN.
    """
    if engine not in ENGINES:
        raise UsageError(f"no engine named {engine!r}; there are: {', '.join(ENGINES)}")
    made = accelerated(net, partial(ENGINES[engine], precision=precision))
    if made is None:
        return None
    net.program, started = made
    return started


def accelerated(
    net: Net, start: Callable[[FrozenNet], Engine], wanted: Collection[str] | None = None
) -> tuple[tuple[Instruction, ...], Engine] | None:
    """A program for the net in which an engine runs all that one can run.

    Args:
        net: see `accelerate`; it stays as it is.
        start: makes the engine for a frozen net.
        wanted: names of the blobs that the program makes; None for the net's outputs.

    Returns:
        The program and its engine, or None where the net has no layer to hand over.
    """
    head, tail = freeze(net, wanted).split(_joins)
    head = head.without_unread_inputs()
    if not head.program:
        return None
    engine = start(head)
    plain = plain_program(net.steps, net.layers)
    apart = {id(op.step) for op in tail.program}
    call = Instruction(
        step=head.program[0].step,
        layer=EngineCall(engine),
        bottoms=tuple(value for _, value in head.inputs),
        tops=head.wanted,
        loss_weights=(0.0,) * len(head.wanted),
        needs_backward=False,
        propagate_down=(True,) * len(head.inputs),
        parts=with_last_uses([op for op in plain if not (is_fed(op) or id(op.step) in apart)]),
    )
    sources = [op for op in plain if is_fed(op)]
    return with_last_uses([*sources, call, *tail.program]), engine


def _joins(op: Instruction) -> bool:
    """Whether an engine may run a layer; those with files, counts or foreign code stay outside."""
    return getattr(op.layer, "can_repeat", True) and not any(op.loss_weights)
