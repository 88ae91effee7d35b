"""Lets an engine run the greater part of a net in phase TEST, behind the net's own face.

    before    data -> layer -> layer -> ... -> DetectionOutput -> DetectionEvaluate
    after     data -> engine                -> DetectionOutput -> DetectionEvaluate

The net is used as before; blobs inside the engine's part are there for those who `keep` them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from caffe_ssd.engines.compiled_engine import CompiledEngine
from caffe_ssd.engines.engine import FLOAT, Engine, Runner
from caffe_ssd.engines.frozen_net import FrozenNet, freeze, is_fed
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.precision import PRECISIONS, Precision
from caffe_ssd.engines.torch_engine import TorchEngine
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.layers.hdf5_output import HDF5Output
from caffe_ssd.layers.python import Python
from caffe_ssd.net import Net
from caffe_ssd.net.passes import Instruction, plain_program, with_last_uses

logger = logging.getLogger(__name__)

# Layers that stay the net's own: they write files, count what they have seen, or run foreign code.
_APART = (DetectionOutput, DetectionEvaluate, HDF5Output, Python)


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
        net: in phase TEST, with its final weights on its final device. After a change of weights
            it needs another call.
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
    head, tail = freeze(net).split(_joins)
    head = head.without_unread_inputs()
    if not head.program:
        return None
    made = ENGINES[engine](head, precision)
    call = Instruction(
        step=head.program[0].step,
        layer=EngineCall(made),
        bottoms=tuple(value for _, value in head.inputs),
        tops=head.wanted,
        loss_weights=(0.0,) * len(head.wanted),
        needs_backward=False,
        propagate_down=(True,) * len(head.inputs),
    )
    sources = [op for op in plain_program(net.steps, net.layers) if is_fed(op)]
    net.program = with_last_uses([*sources, call, *tail.program])
    return made


def _joins(op: Instruction) -> bool:
    return not isinstance(op.layer, _APART) and not any(op.loss_weights)
