"""`caffe test`: score a net on its test set.

Spec: caffe-net.md section 19; ssd-data.md section 5.

Every output's elements are averaged over the passes. Outputs of DetectionEvaluate layers give mAP
instead, in all three versions, with one line per class. With -protocol the same pass also gives the
numbers of the official protocols, as tables on standard output. With -scales or -flip the net looks
at every picture several times, and the scores are those of what all looks found together.
With -precision the plain net is scored first, and a table says what the precision costs. Without
-engine and -precision it is the plain net, whose numbers are the reference's.
"""

from __future__ import annotations

import argparse
import sys

from caffe_ssd import devices
from caffe_ssd.cli.flags import (
    ActionParser,
    add_engine_flags,
    add_lenient_flag,
    add_scale_flags,
    add_tf32_flag,
    add_unfilled_flag,
    add_workers_flag,
    at_least,
    check_files,
    engine_of,
    only_device,
    required,
    scales_of,
    weights_of,
)
from caffe_ssd.desk.console import is_terminal, show
from caffe_ssd.desk.flags import about_flag
from caffe_ssd.errors import UsageError
from caffe_ssd.scoring.engine_choice import PLAIN
from caffe_ssd.scoring.protocols import OFFICIAL, read_protocols
from caffe_ssd.scoring.score import score
from caffe_ssd.scoring.tables import write_json
from caffe_ssd.solver import debug_info

DESCRIPTION = "Score a net: the mean of its outputs, or mAP where it has DetectionEvaluate layers."
EXAMPLES = """\
  caffe test -model test.prototxt -weights net.caffemodel -gpu 0
  caffe test -model test.prototxt -weights net.caffemodel -iterations 100
  caffe test -model test.prototxt -weights net.caffemodel -protocol voc2007,coco
  caffe test -model test.prototxt -weights net.caffemodel -scales 0.8,1,1.2 -flip
  caffe test -model test.prototxt -weights net.caffemodel -precision int8 \\
      -calibration train_lmdb"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    device = only_device(args)
    choice = engine_of(args, device, default=PLAIN)
    multi_scale = scales_of(args)
    check_files(args, "model", "weights")
    devices.announce_one(device)
    devices.set_up_device(device, tf32=args.tf32)
    report = score(
        args.model,
        weights_of(args),
        protocols=["reference", *args.protocol],
        labels=args.label_map,
        iterations=args.iterations,
        multi_scale=multi_scale,
        engine=choice,
        device=device,
        workers=args.workers,
        level=args.level,
        stages=args.stage.split(","),
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
        forward=debug_info.forward,
    )
    # Without -protocol standard output is the original's, which is empty, unless somebody looks.
    if args.protocol or (report.protocols and is_terminal(sys.stdout)):
        show(report.table())
    if args.protocol and args.json is not None:
        write_json(args.json, report.to_dict())
    if report.exact is not None:
        show(report.cost_table())
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("test", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags(
        "weights",
        "gpu",
        "level",
        "stage",
        model="the test net's prototxt",
        iterations="number of passes (every record once for detectors, else 50)",
    )
    add_workers_flag(parser)
    add_tf32_flag(parser)
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
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    with about_flag("protocol"):
        args.protocol = read_protocols(args.protocol, OFFICIAL)
    if args.protocol and args.iterations is not None:
        raise UsageError("-protocol scores the whole test set; it excludes -iterations")
    at_least(args, "iterations", 1)
    return args
