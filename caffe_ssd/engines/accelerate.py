"""Lets an engine run the greater part of a net in phase TEST, behind the net's own face.

    before    data -> layer -> layer -> ... -> DetectionOutput -> DetectionEvaluate
    after     data -> engine                -> DetectionOutput -> DetectionEvaluate

The net is used as before; blobs inside the engine's part are there for those who `keep` them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn

from caffe_ssd.engines.compiled_engine import CompiledEngine
from caffe_ssd.engines.engine import FLOAT, Engine, Runner
from caffe_ssd.engines.frozen_net import FrozenNet, freeze, is_fed
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.precision import PRECISIONS, Precision
from caffe_ssd.engines.torch_engine import TorchEngine
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.passes import plain_program

logger = logging.getLogger(__name__)


class AutoEngine(Engine):
    """The fastest installed engine that computes what PyTorch does, found out at the first input.

    The order is that of docs/performance.md. `compile` is not among them: it takes a minute.
    """

    name = "auto"
    precisions = PRECISIONS
    fastest_first: Sequence[type[Engine]] = (OpenVinoEngine, OnnxRuntimeEngine)
    tolerance = 1e-3

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        super().__init__(net, precision)
        self.chosen: Engine | None = None

    @property
    def version(self) -> str:
        return self.name if self.chosen is None else self.chosen.version

    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        if self.chosen is not None:
            return self.chosen.prepare(net, inputs)
        self.chosen, run = self._choose(net, inputs)
        logger.info("Engine: %s", self.chosen.description)
        return run

    def _choose(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> tuple[Engine, Runner]:
        on_cpu = all(x.device.type == "cpu" for x in inputs)
        offers = list(
            self._offers((*self.fastest_first, TorchEngine) if on_cpu else (TorchEngine,))
        )
        if not offers:
            raise UsageError(f"no installed engine calculates in {self.precision.name} here")
        if self.precision.name != FLOAT.name or len(offers) == 1:
            return offers[0], offers[0].prepare(net, inputs)
        *quicker, plain = offers
        run_plain = plain.prepare(net, inputs)
        wanted = run_plain(*inputs)
        for engine in quicker:
            run = engine.prepare(net, inputs)
            if self._agree(wanted, run(*inputs)):
                return engine, run
            logger.warning("Engine %s computes something else; not used", engine.description)
        return plain, run_plain

    def _offers(self, kinds: Sequence[type[Engine]]) -> Iterator[Engine]:
        for kind in kinds:
            with suppress(UsageError):  # not installed, or not in this precision
                yield kind(self.net, self.precision)

    def _agree(self, wanted: Sequence[Tensor], got: Sequence[Tensor]) -> bool:
        """Whether results are the same but for rounding, which grows with a blob's values."""
        return all(
            torch.allclose(a, b, rtol=0, atol=self.tolerance * float(_magnitude(a)), equal_nan=True)
            for a, b in zip(wanted, got, strict=True)
        )


def _magnitude(x: Tensor) -> Tensor:
    """The largest finite absolute value."""
    return x.nan_to_num(posinf=0, neginf=0).abs().max() if x.numel() else torch.zeros(())


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
