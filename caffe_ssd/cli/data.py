"""`caffe data`: looks at data sets before they are trained on, and brings them into other formats.

An addition to the reference's actions. `check`, `convert` and `show` are a file each; here one is
chosen.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches

from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.errors import UsageError

ACTIONS = {
    "check": "say what is in a data set and what is wrong with it",
    "convert": "write a data set in another format",
    "show": "draw training batches as the net sees them, with the priors that match",
}
DESCRIPTION = (
    "Look at data sets before training, and bring them into other formats.\n\nactions:\n"
    + (
        "\n".join(f"  {name:<9}{summary}" for name, summary in ACTIONS.items())
        + "\n\ncaffe data ACTION --help lists the flags of an action."
    )
)
EXAMPLES = """\
  caffe data check my_pictures -output check.html
  caffe data check my_pictures -model train.prototxt
  caffe data convert my_pictures my_pictures_coco -to coco
  caffe data show train.prototxt -output show.png"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    rest = list(arguments)
    name = next((word for word in rest if not word.startswith("-")), None)
    if name is None:
        parser = ActionParser("data", description=DESCRIPTION, examples=EXAMPLES)
        parser.add_argument("action", metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
        parser.add_argument("rest", metavar="ARGUMENT", nargs="*", help="what it is given")
        parser.parse_action(rest)
        return 0
    if name not in ACTIONS:
        close = get_close_matches(name, ACTIONS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"caffe data: unknown action {name!r}; {hint}known: {', '.join(ACTIONS)}")
    rest.remove(name)
    module = importlib.import_module(f"caffe_ssd.cli.data_{name}")
    return int(module.run(rest))
