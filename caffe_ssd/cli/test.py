"""`caffe test`: score a net on its test set.

Spec: caffe-net.md section 19; ssd-data.md section 5.

Every output's elements are averaged over the passes. Outputs of DetectionEvaluate layers give mAP
instead, in all three versions, with one line per class. With -protocol the same pass also gives the
numbers of the official protocols, as tables on standard output. With -scales or -flip the net looks
at every picture several times, and the scores are those of what all looks found together.
With -precision the plain net is scored first, and a table says what the precision costs. Without
-engine and -precision it is the plain net, whose numbers are the reference's.

Deliberate difference: the reference averages the rows of DetectionEvaluate too, which means
nothing, and prints every one of them; here those outputs are scored.
Deliberate difference: without -iterations a net with DetectionEvaluate sees every record of its
data layer exactly once. The reference makes 50 passes, and counts records twice when its set ends
in mid-batch.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.cli import devices
from caffe_ssd.cli.console import set_up_logging, show
from caffe_ssd.cli.cost_table import format_cost
from caffe_ssd.cli.engines import PLAIN, add_engine_flags, give_engine, read_choice
from caffe_ssd.cli.flags import FlagParser, add_lenient_flag, check_files, net_state, required
from caffe_ssd.cli.multi_scale import MultiScalePasses, own_size
from caffe_ssd.cli.official import OfficialScores
from caffe_ssd.cli.protocols import (
    OFFICIAL,
    format_scores,
    read_protocols,
    reference_score,
    write_json,
)
from caffe_ssd.cli.scales import add_scale_flags, is_multi_scale, num_scales, read_rule
from caffe_ssd.cli.whole_set import end_with_set, passes_over_set
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.mean_ap import MeanAPAccumulator
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import Net, NetResult, build_net
from caffe_ssd.net.detector import without_result_files
from caffe_ssd.net.weights import OTHER_NET_ADVICE, copy_trained_file
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.proto.text import read_net
from caffe_ssd.solver import debug_info, log
from caffe_ssd.solver.net_log import build_logged_net
from caffe_ssd.solver.testing import OutputMeans, detection_rows, write_class_ap

logger = logging.getLogger(__name__)

DESCRIPTION = "Score a net: the mean of its outputs, or mAP where it has DetectionEvaluate layers."
EXAMPLES = """\
  caffe test -model test.prototxt -weights net.caffemodel -gpu 0
  caffe test -model test.prototxt -weights net.caffemodel -iterations 100
  caffe test -model test.prototxt -weights net.caffemodel -protocol voc2007,coco
  caffe test -model test.prototxt -weights net.caffemodel -scales 0.8,1,1.2 -flip
  caffe test -model test.prototxt -weights net.caffemodel -precision int8 \\
      -calibration train_lmdb"""

DEFAULT_ITERATIONS = 50


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    set_up_logging()
    args = _parse(arguments)
    device = devices.choose_devices(args.gpu)[0]
    choice = read_choice(args, device, default=PLAIN)
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    net = load_net(args, Phase.Value("TEST"), device)
    copy_trained_file(net, args.weights, advice=OTHER_NET_ADVICE)
    label_map = None if args.label_map is None else read_label_map(args.label_map)
    official = OfficialScores(net, label_map) if args.protocol else None
    exact = None if choice.is_exact else _exact_scores(args, device)
    give_engine(net, choice, sizes=num_scales(args))
    scores = _score(args, net, whole_set=official is not None)
    if official is not None:
        _write_official(args, official, scores)
    if exact is not None:
        show(format_cost(exact.values(), scores.values(), choice.precision))
    return 0


def _exact_scores(args: argparse.Namespace, device: torch.device) -> Scores:
    """The scores of the same net in float32; it writes no result files."""
    logger.info("Scoring in fp32, to compare with")
    param = without_result_files(read_net(args.model, lenient=args.lenient))
    net = _build(args, param, Phase.Value("TEST"), device, build=build_net)
    copy_trained_file(net, args.weights, advice=OTHER_NET_ADVICE)
    scores = _score(args, net)
    logger.info("Scoring in %s", args.precision)
    return scores


def _score(args: argparse.Namespace, net: Net, *, whole_set: bool = False) -> Scores:
    """Run the passes that the flags ask for, and log the scores.

    Args:
        args: iterations, and the flags of scales.
        net: with its weights.
        whole_set: see every record once, whatever the net's outputs are.
    """
    scores = Scores(net)
    passes_at_scales = _at_scales(args, net)
    forward = partial(debug_info.forward, net) if passes_at_scales is None else passes_at_scales
    wants_set = bool(scores.accumulators) or whole_set or passes_at_scales is not None
    passes = _passes(args.iterations, net, wants_set)
    log.TEST_RUNNING.write(iterations=passes)
    for batch in range(passes):
        scores.add(forward(), batch)
    scores.write()
    return scores


def load_net(
    args: argparse.Namespace, phase: int, device: torch.device, *, saves_results: bool = True
) -> Net:
    """The net of -model on the device, without weights.

    Args:
        args: model, level, stage, workers, lenient.
        phase: TRAIN (0) or TEST (1).
        device: where it shall run.
        saves_results: whether DetectionOutput writes the result files it names.
    """
    param = read_net(args.model, lenient=args.lenient)
    if not saves_results:
        param = without_result_files(param)
    return _build(args, param, phase, device, build=build_logged_net)


def _build(
    args: argparse.Namespace,
    param: NetParameter,
    phase: int,
    device: torch.device,
    *,
    build: Callable[[NetParameter, NetState, Runtime], Net],
) -> Net:
    state = NetState()
    state.MergeFrom(param.state)
    state.MergeFrom(net_state(args, phase))
    workers = devices.default_workers(device) if args.workers is None else args.workers
    return build(param, state, Runtime(data_workers=workers)).to(device)


class Scores:
    """What a net's outputs amount to over all passes.

    Args:
        net: the net.
    """

    def __init__(self, net: Net) -> None:
        evaluated = {
            net.blob_names[value.blob]
            for step in net.steps
            if step.param.type == "DetectionEvaluate"
            for value in step.tops
        }
        self._weights = net.loss_weights
        self._averaged = [name for name in net.outputs if name not in evaluated]
        self._means = OutputMeans(self._averaged)
        self._losses: list[Tensor] = []
        self.accumulators = {
            name: [MeanAPAccumulator(version) for version in AP_VERSIONS]
            for name in net.outputs
            if name in evaluated
        }

    def add(self, result: NetResult, batch: int) -> None:
        """Take pass number `batch` and log its values."""
        for name in self._averaged:
            for value in result.blobs[name].flatten().tolist():
                log.TEST_BATCH.write(batch=batch, name=name, value=value)
        self._means.add(result)
        self._losses.append(result.loss)
        for name, accumulators in self.accumulators.items():
            rows = detection_rows(name, result.blobs[name])
            for accumulator in accumulators:
                accumulator.update(rows)

    def values(self) -> dict[str, float]:
        """The scores by name: mAP by version, and means, numbered where a blob has several."""
        scores = {
            f"{name} mAP ({each.version})": each.compute().value
            for name, accumulators in self.accumulators.items()
            for each in accumulators
        }
        for name, means in self._means.means().items():
            for i, mean in enumerate(means):
                scores[name if len(means) == 1 else f"{name}[{i}]"] = mean
        return scores

    def write(self) -> None:
        """Log the scores of all passes."""
        log.TEST_TOTAL_LOSS.write(loss=float(torch.stack(self._losses).mean()))
        log.write_outputs(log.TEST_MEAN, self._means.means(), self._weights)
        for name, accumulators in self.accumulators.items():
            for accumulator in accumulators:
                score = accumulator.compute()
                log.AP_VERSION.write(name=name, version=accumulator.version)
                write_class_ap(score)
                log.MEAN_AP.write(name=name, version=accumulator.version, value=score.value)


def _at_scales(args: argparse.Namespace, net: Net) -> Callable[[], NetResult] | None:
    """What makes a pass where the flags ask for several looks at each picture."""
    if not is_multi_scale(args):
        return None
    return MultiScalePasses(net, read_rule(args, net, own_size(net))).forward


def _write_official(args: argparse.Namespace, official: OfficialScores, scores: Scores) -> None:
    """Print the reference's mAP and the official numbers side by side."""
    shown = [
        reference_score(accumulators, official.names)
        for accumulators in scores.accumulators.values()
    ]
    shown += official.scores(args.protocol)
    print(format_scores(official.test_set, shown))
    if args.json is not None:
        write_json(args.json, official.test_set, shown)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("test", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("model", "weights", "gpu", "iterations", "level", "stage")
    parser.add_flag("workers", type=int, default=None, help="data worker processes")
    parser.add_flag("tf32", action="store_true", help="allow TF32: faster, other numbers")
    parser.add_flag(
        "protocol",
        action="append",
        default=[],
        metavar="NAME,...",
        help=f"also score by {', '.join(OFFICIAL)}, every record once; may be repeated",
    )
    parser.add_flag("label_map", metavar="FILE", help="class names for the tables of -protocol")
    parser.add_flag("json", metavar="FILE", help="also write the scores of -protocol as JSON")
    add_scale_flags(parser)
    add_engine_flags(parser, PLAIN)
    add_lenient_flag(parser)
    args = parser.parse_flags(arguments)
    required(args, "model", "weights")
    args.protocol = read_protocols(args.protocol, OFFICIAL)
    if args.protocol and args.iterations is not None:
        raise UsageError("-protocol scores the whole test set; it excludes -iterations")
    if args.iterations is not None and args.iterations < 1:
        raise UsageError(f"-iterations must be at least 1, got {args.iterations}")
    return args


def _passes(iterations: int | None, net: Net, wants_set: bool) -> int:
    if iterations is not None:
        return iterations
    whole_set = passes_over_set(net) if wants_set else None
    if whole_set is None:
        return DEFAULT_ITERATIONS
    end_with_set(net)
    return whole_set
