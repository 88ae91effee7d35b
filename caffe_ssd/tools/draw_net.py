"""draw_net.py: a net as a graph of all its layers and blobs.

Spec: caffe-net.md section 18. `caffe draw` writes a picture that folds what repeats, without
Graphviz.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caffe.draw import draw_net_to_file

from caffe_ssd.desk.console import run_command, show
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.proto.caffe_pb2 import TEST, TRAIN
from caffe_ssd.proto.text import read_net

DESCRIPTION = """\
Draw a net's layers and blobs as a graph.

The ending of OUT says the format: .dot and .gv are written as they are, all others need the program
dot of Graphviz."""
EXAMPLES = """\
  draw_net deploy.prototxt net.dot
  draw_net train_val.prototxt net.png -rankdir TB -phase TRAIN"""

_PHASES = {"TRAIN": TRAIN, "TEST": TEST, "ALL": None}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "draw_net", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("draw_net", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_argument("output", metavar="OUT", help="the picture to write")
    parser.add_flag(
        "rankdir",
        default="LR",
        choices=("LR", "TB", "BT", "RL"),
        help="where the net grows: from left to right (LR), top to bottom (TB), ... (%(default)s)",
    )
    parser.add_flag(
        "phase", default="ALL", choices=tuple(_PHASES), help="layers to draw (%(default)s)"
    )
    args = parser.parse_flags(argv)
    net = read_net(args.net)
    show(f"Drawing net to {args.output}")
    draw_net_to_file(net, args.output, args.rankdir, _PHASES[args.phase])


if __name__ == "__main__":
    sys.exit(main())
