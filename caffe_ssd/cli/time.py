"""`caffe time`: how long a net's passes take, as a whole and layer by layer.

Spec: caffe-net.md section 19.

The totals are those of the net as it runs, where neighbouring layers may be one operation. The
lines per layer come from running each layer by itself, forward and then backward.

With -engine it is the net's forward pass in phase TEST under that engine, beside the plain net's.
How long detectors take to sort out boxes depends on their scores, so -weights loads trained ones.

Deliberate difference: layers that need no backward pass take none; the reference runs theirs too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd import devices, log
from caffe_ssd.cli.flags import (
    ActionParser,
    add_engine_flags,
    add_lenient_flag,
    add_tf32_flag,
    add_workers_flag,
    at_least,
    check_files,
    engine_of,
    only_device,
    required,
    settle_phase,
    weights_of,
)
from caffe_ssd.cli.stopwatch import Stopwatch
from caffe_ssd.cli.time_engine import time_engine
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.layerwise import LayerPass, leaves_of, run_layer_backward
from caffe_ssd.net.runner import Runner
from caffe_ssd.scoring.engine_choice import PLAIN
from caffe_ssd.scoring.loading import load_net
from caffe_ssd.scoring.score import DEFAULT_ITERATIONS

DESCRIPTION = "Measure how long a net's forward and backward passes take, layer by layer."
EXAMPLES = """\
  caffe time -model deploy.prototxt -phase TEST
  caffe time -model train_val.prototxt -iterations 10 -gpu 0
  caffe time -model deploy.prototxt -weights net.caffemodel -engine auto"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    iterations = DEFAULT_ITERATIONS if args.iterations is None else args.iterations
    device = only_device(args)
    choice = engine_of(args, device, default=PLAIN)
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    net = load_net(
        args.model,
        weights_of(args),
        phase=_phase(args, has_engine=not choice.is_plain),
        level=args.level,
        stages=args.stage.split(","),
        device=device,
        workers=args.workers,
        lenient=args.lenient,
        allow_unfilled=True,
        is_logged=True,
    )
    if not choice.is_plain:
        time_engine(net, choice, iterations, Stopwatch(device))
        return 0
    _warm_up(net, device)
    log.TIME_BEGIN.write()
    log.TIME_ITERATIONS.write(iterations=iterations)
    watch = Stopwatch(device)
    for i in range(iterations):
        before = watch.total("forward", "backward")
        _time_passes(net, watch)
        _time_layers(net, watch)
        passed = watch.total("forward", "backward") - before
        log.TIME_ITERATION.write(iteration=i + 1, ms=passed)
    _write(net, watch, iterations)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("time", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags(
        "model",
        "gpu",
        "iterations",
        "level",
        "stage",
        phase="phase of the net, TRAIN or TEST (TRAIN; TEST with -engine)",
        weights="weights, one or more files separated by ','; without any the fillers' values",
    )
    add_workers_flag(parser)
    add_tf32_flag(parser)
    add_engine_flags(parser, PLAIN)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model")
    settle_phase(args)
    at_least(args, "iterations", 1)
    return args


def _phase(args: argparse.Namespace, *, has_engine: bool) -> str:
    """The phase of the net; engines run nets in phase TEST."""
    if has_engine and args.phase == "TRAIN":
        raise UsageError("engines run nets in phase TEST; -engine excludes -phase TRAIN")
    return args.phase or ("TEST" if has_engine else "TRAIN")


def _warm_up(net: Net, device: torch.device) -> None:
    log.TIME_FORWARD.write()
    result: NetResult = net()
    log.TIME_INITIAL_LOSS.write(loss=float(result.loss.detach()))
    log.TIME_BACKWARD.write()
    _backward(result)
    _time_layers(net, Stopwatch(device))


def _backward(result: NetResult) -> None:
    if result.loss.requires_grad:
        result.loss.backward()  # type: ignore[no-untyped-call]


def _time_passes(net: Net, watch: Stopwatch) -> None:
    net.clear_diffs()
    with watch.measure("forward"):
        result = net()
    with watch.measure("backward"):
        _backward(result)


def _time_layers(net: Net, watch: Stopwatch) -> None:
    _TimingRunner(net.context(), watch).run(net.plain_program, {})


class _TimingRunner(Runner):
    """Runs every layer by itself, forward and then backward, and measures both."""

    def __init__(self, context: RunContext, watch: Stopwatch) -> None:
        super().__init__(context)
        self._watch = watch

    def call(self, op: Instruction, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        leaves = leaves_of(op, bottoms)
        name = op.step.param.name
        with self._watch.measure(f"{name} forward"):
            tops = super().call(op, leaves)
        with self._watch.measure(f"{name} backward"):
            if op.needs_backward and op.step.type.has_backward:
                run_layer_backward(op, LayerPass(leaves, tops), [torch.ones_like(t) for t in tops])
        return tuple(top.detach() for top in tops)


def _write(net: Net, watch: Stopwatch, iterations: int) -> None:
    log.TIME_PER_LAYER.write()
    for name in net.layer_names:
        log.TIME_LAYER_FORWARD.write(layer=name, ms=watch.total(f"{name} forward") / iterations)
        log.TIME_LAYER_BACKWARD.write(layer=name, ms=watch.total(f"{name} backward") / iterations)
    log.TIME_MEAN_FORWARD.write(ms=watch.total("forward") / iterations)
    log.TIME_MEAN_BACKWARD.write(ms=watch.total("backward") / iterations)
    log.TIME_MEAN_BOTH.write(ms=watch.total("forward", "backward") / iterations)
    log.TIME_TOTAL.write(ms=watch.total("forward", "backward"))
    log.TIME_END.write()
