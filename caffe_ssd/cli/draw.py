"""`caffe draw`: a picture of a net, as SVG.

An addition to the reference's actions, whose `python/draw_net.py` draws each layer and needs
Graphviz (`caffe.draw` has it).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_ssd.cli.flags import ActionParser, add_lenient_flag, net_state, settle_phase
from caffe_ssd.desk.console import show
from caffe_ssd.drawing.picture import draw_net
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.net.cost import net_to_look_at
from caffe_ssd.proto.text import read_net

DESCRIPTION = """\
Draw a net as an SVG file, which any browser shows.

Convolutions stand with their BatchNorm and ReLU in one box, dense and residual units and equal
layers that follow one another too; the prediction layers of a detector stand beside the maps they
read. The mouse over a box shows the names of its layers."""
EXAMPLES = """\
  caffe draw deploy.prototxt net.svg
  caffe draw train_val.prototxt net.svg -phase TRAIN"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    param = read_net(args.net, lenient=args.lenient)
    net = net_to_look_at(param, net_state(args, args.phase))
    atomic_write(args.output, draw_net(net))
    show(f"Wrote {args.output}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("draw", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_argument("output", metavar="OUT.svg", help="the picture to write")
    parser.add_reference_flags("level", "stage", phase="phase of the net, TRAIN or TEST (TEST)")
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    settle_phase(args, default="TEST")
    if Path(args.output).suffix.lower() != ".svg":
        raise UsageError(f"the name of the picture must end in .svg, got {args.output!r}")
    return args
