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

from caffe_ssd.cli import devices
from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.engines import PLAIN, add_engine_flags, read_choice
from caffe_ssd.cli.flags import FlagParser, add_lenient_flag, check_files, required, settle_phase
from caffe_ssd.cli.stopwatch import Stopwatch
from caffe_ssd.cli.test import DEFAULT_ITERATIONS, load_net
from caffe_ssd.cli.time_engine import time_engine
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.layerwise import LayerPass, leaves_of, run_layer_backward
from caffe_ssd.net.runner import Runner
from caffe_ssd.net.weights import OTHER_NET_ADVICE, copy_trained_file
from caffe_ssd.proto.caffe_pb2 import Phase
from caffe_ssd.solver import log

DESCRIPTION = "Measure how long a net's forward and backward passes take, layer by layer."
EXAMPLES = """\
  caffe time -model deploy.prototxt -phase TEST
  caffe time -model train_val.prototxt -iterations 10 -gpu 0
  caffe time -model deploy.prototxt -weights net.caffemodel -engine auto"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    set_up_logging()
    args = _parse(arguments)
    iterations = DEFAULT_ITERATIONS if args.iterations is None else args.iterations
    device = devices.choose_devices(args.gpu)[0]
    choice = read_choice(args, device, default=PLAIN)
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    phase = _phase(args, has_engine=not choice.is_plain)
    net = load_net(args, phase, device, saves_results=False)
    if args.weights:
        copy_trained_file(net, args.weights, advice=OTHER_NET_ADVICE)
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
    parser = FlagParser("time", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("model", "weights", "phase", "gpu", "iterations", "level", "stage")
    parser.add_flag("workers", type=int, default=None, help="data worker processes")
    parser.add_flag("tf32", action="store_true", help="allow TF32: faster, other numbers")
    add_engine_flags(parser, PLAIN)
    add_lenient_flag(parser)
    args = parser.parse_flags(arguments)
    required(args, "model")
    settle_phase(args)
    if args.iterations is not None and args.iterations < 1:
        raise UsageError(f"-iterations must be at least 1, got {args.iterations}")
    return args


def _phase(args: argparse.Namespace, *, has_engine: bool) -> int:
    """The phase of the net; engines run nets in phase TEST."""
    if has_engine and args.phase == "TRAIN":
        raise UsageError("engines run nets in phase TEST; -engine excludes -phase TRAIN")
    default = "TEST" if has_engine else "TRAIN"
    return Phase.Value(args.phase if args.phase else default)


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
