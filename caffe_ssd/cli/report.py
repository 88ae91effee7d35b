"""`caffe report`: what a trained detector can do and what it cannot, as one HTML file.

An addition to the reference's actions; see `caffe_ssd.report`.
"""

from __future__ import annotations

import argparse

from caffe_ssd import devices
from caffe_ssd.cli.flags import (
    ActionParser,
    add_lenient_flag,
    add_workers_flag,
    check_files,
    only_device,
    weights_of,
)
from caffe_ssd.desk.console import show, warnings_only
from caffe_ssd.errors import UsageError
from caffe_ssd.report.report import write_report

DESCRIPTION = """\
Write a report about a training as one HTML file: scores, mistakes with pictures, curves, speed, and
how to use the detector. RUN is the folder of a run or its solver.prototxt; without it, -model and
-weights name a test net and its weights.
"""
EXAMPLES = """\
  caffe report cells_fit
  caffe report models/solver.prototxt -output report.html
  caffe report -model test.prototxt -weights net.caffemodel -output report.html -speed off"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    device = only_device(args)
    devices.set_up_device(device, tf32=False)
    with warnings_only():
        path = write_report(
            args.run,
            model=args.model or None,
            weights=weights_of(args),
            output=args.output,
            device=device,
            workers=args.workers,
            has_speed=args.speed == "on",
            lenient=args.lenient,
        )
    show(f"wrote {path}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("report", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("run", nargs="?", metavar="RUN", help="the run's folder or solver.prototxt")
    parser.add_reference_flags(
        "gpu",
        model="the test net's prototxt (the solver's test net)",
        weights="its weights (the run's detector, its best or else its newest weights)",
    )
    parser.add_flag("output", metavar="FILE", help="the file (report.html in the run's folder)")
    parser.add_flag(
        "speed",
        choices=("on", "off"),
        default="on",
        help="measure the engines, for about 20 seconds (%(default)s)",
    )
    add_workers_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    if args.run is None and not (args.model and args.weights):
        raise UsageError("no RUN: name a run's folder or solver.prototxt, or -model and -weights")
    check_files(args, "model", "weights")
    return args
