"""`caffe data`: looks at data sets before they are trained on, and brings them into other formats.

An addition to the reference's actions. `check`, `convert` and `show` are a file each; here one is
chosen.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches

from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError

ACTIONS = {
    "check": "say what is in a data set and what is wrong with it",
    "convert": "write a data set in another format",
    "show": "draw training batches as the net sees them, with the priors that match",
}
_EXAMPLES = """\
  caffe data check my_pictures -output check.html
  caffe data check my_pictures -model train.prototxt
  caffe data convert my_pictures my_pictures_coco -to coco
  caffe data show train.prototxt -output show.png"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    names = [word for word in arguments if not word.startswith("-")]
    if not names or names[0] not in ACTIONS:
        wants_help = any(word.lstrip("-") in ("help", "h") for word in arguments)
        if not names and (wants_help or not arguments):
            show(_usage())
            return 0 if wants_help else 2
        close = get_close_matches(names[0], ACTIONS, n=1) if names else []
        hint = f"did you mean {close[0]}? " if close else ""
        given = repr(names[0]) if names else "none"
        raise UsageError(f"caffe data: the action is {given}; {hint}known: {', '.join(ACTIONS)}")
    name = names[0]
    rest = list(arguments)
    rest.remove(name)
    module = importlib.import_module(f"caffe_ssd.cli.data_{name}")
    return int(module.run(rest))


def _usage() -> str:
    lines = ["usage: caffe data <action> [flags] ...", "", "actions:"]
    lines += [f"  {name:<9}{summary}" for name, summary in ACTIONS.items()]
    lines += ["", "caffe data <action> --help lists the flags of an action.", "", "examples:"]
    return "\n".join([*lines, _EXAMPLES])
