"""`caffe recalibrate`: recompute BatchNorm's running statistics of trained weights.

An extension; see `caffe_ssd.net.statistics` for why.
"""

from __future__ import annotations

import argparse

from caffe_ssd.cli import devices
from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.flags import FlagParser, add_lenient_flag, check_files, required
from caffe_ssd.cli.test import load_net
from caffe_ssd.errors import UsageError
from caffe_ssd.net.statistics import recompute_statistics
from caffe_ssd.net.weights import OTHER_NET_ADVICE, copy_trained_file, save_binary
from caffe_ssd.proto.caffe_pb2 import Phase

DESCRIPTION = (
    "Recompute the running statistics of BatchNorm layers from training data, for weights of a "
    "short training, whose statistics still remember older weights."
)
EXAMPLES = """\
  caffe recalibrate -model train.prototxt -weights iter_1000.caffemodel -output net.caffemodel"""

DEFAULT_ITERATIONS = 50


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    set_up_logging()
    args = _parse(arguments)
    device = devices.choose_devices(args.gpu)[0]
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    net = load_net(args, Phase.Value("TRAIN"), device)
    copy_trained_file(net, args.weights, advice=OTHER_NET_ADVICE)
    passes = DEFAULT_ITERATIONS if args.iterations is None else args.iterations
    if passes < 1:
        raise UsageError(f"-iterations must be at least 1, got {passes}")
    recompute_statistics(net, passes)
    save_binary(net, args.output)
    print(f"wrote {args.output}: statistics of {passes} passes")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("recalibrate", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("gpu", "model", "weights", "iterations", "level", "stage")
    parser.add_flag("output", default="", help="the caffemodel to write")
    parser.add_flag("workers", type=int, default=None, help="data worker processes")
    parser.add_flag("tf32", action="store_true", help="allow TF32: faster, other numbers")
    add_lenient_flag(parser)
    args = parser.parse_flags(arguments)
    required(args, "model", "weights")
    if not args.output:
        raise UsageError("-output is missing: the caffemodel to write")
    return args
