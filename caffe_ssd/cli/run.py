"""`caffe run`: run a script that was written for the original, in Python 2 or 3.

An addition to the reference's actions.
"""

from __future__ import annotations

import argparse

from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.flags import FlagParser

DESCRIPTION = """\
Run a script that was written for the original Caffe.

Python 2 is translated in memory, print statements, xrange and division of whole numbers included;
what is written in Python 3 runs as it is. ./build/tools/caffe and the other tools, in the jobs
that scripts write and start, are ours where the folder has none."""
EXAMPLES = """\
  caffe run examples/ssd/ssd_pascal.py
  caffe run -python 2 my_script.py --some flag"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the script's exit status."""
    set_up_logging()
    args = _parse(arguments)
    from caffe.old_scripts import run_script

    return run_script(args.script, args.arguments, args.python)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("run", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_flag(
        "python", type=int, choices=(2, 3), help="which it is written in (told from the script)"
    )
    parser.add_argument("script", metavar="SCRIPT", help="the script")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its flags")
    return parser.parse_flags(arguments)
