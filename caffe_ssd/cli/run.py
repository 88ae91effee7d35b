"""`caffe run`: run a script that was written for the original, in Python 2 or 3.

An addition to the reference's actions.
"""

from __future__ import annotations

import argparse
import importlib
import os

from caffe.old_scripts import run_script

from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.tools import script_of

DESCRIPTION = """\
Run a script that was written for the original Caffe.

Python 2 is translated in memory, print statements, xrange and division of whole numbers included;
what is written in Python 3 runs as it is. ./build/tools/caffe and the other tools, in the jobs
that scripts write and start, are ours where the folder has none. So are python/classify.py,
detect.py and draw_net.py, and tools/extra/parse_log.py and plot_training_log.py."""
EXAMPLES = """\
  caffe run examples/ssd/ssd_pascal.py
  caffe run -python 2 my_script.py --some flag
  caffe run python/draw_net.py deploy.prototxt net.dot"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the script's exit status."""
    own, rest = _split(arguments)
    args = _parse(own)
    ours = None if os.path.exists(args.script) else script_of(args.script)
    if ours is not None:
        status: int = importlib.import_module(f"caffe_ssd.tools.{ours}").main(rest)
        return status
    return run_script(args.script, rest, args.python)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Our flags with the script, and everything behind it, which is the script's own."""
    end = 0
    while end < len(arguments) and arguments[end].startswith("-"):
        # A flag with its value in a word of its own; the others bring it along, or have none.
        end += 2 if arguments[end].lstrip("-") == "python" else 1
    return arguments[: end + 1], arguments[end + 1 :]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("caffe run", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_flag(
        "python", type=int, choices=(2, 3), help="which it is written in (told from the script)"
    )
    parser.add_argument("script", metavar="SCRIPT", help="the script; what follows is its own")
    return parser.parse_flags(arguments)
