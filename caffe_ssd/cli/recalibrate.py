"""`caffe recalibrate`: recompute BatchNorm's running statistics of trained weights.

An extension; see `caffe_ssd.net.statistics` for why.
"""

from __future__ import annotations

import argparse

from caffe_ssd import devices
from caffe_ssd.cli.flags import (
    ActionParser,
    add_lenient_flag,
    add_tf32_flag,
    add_unfilled_flag,
    add_workers_flag,
    at_least,
    check_files,
    only_device,
    required,
    weights_of,
)
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError
from caffe_ssd.net.statistics import recompute_statistics
from caffe_ssd.net.weights import save_binary, save_hdf5
from caffe_ssd.scoring.loading import load_net

DESCRIPTION = (
    "Recompute the running statistics of BatchNorm layers from training data, for weights of a "
    "short training, whose statistics still remember older weights."
)
EXAMPLES = """\
  caffe recalibrate -model train.prototxt -weights iter_1000.caffemodel -output net.caffemodel"""

DEFAULT_ITERATIONS = 50


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    device = only_device(args)
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    net = load_net(
        args.model,
        weights_of(args),
        phase="TRAIN",
        level=args.level,
        stages=args.stage.split(","),
        device=device,
        workers=args.workers,
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
        saves_results=True,
        is_logged=True,
    )
    passes = DEFAULT_ITERATIONS if args.iterations is None else args.iterations
    recompute_statistics(net, passes)
    (save_hdf5 if args.output.endswith(".h5") else save_binary)(net, args.output)
    show(f"wrote {args.output}: statistics of {passes} passes")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("recalibrate", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags(
        "gpu", "weights", "iterations", "level", "stage", model="the train net's prototxt"
    )
    parser.add_flag("output", default="", help="the caffemodel to write")
    add_workers_flag(parser)
    add_tf32_flag(parser)
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    at_least(args, "iterations", 1)
    if not args.output:
        raise UsageError("-output is missing: the caffemodel to write")
    return args
