"""The flags of `caffe`: the reference's for every action, and what each action adds.

Spec: caffe-net.md section 19. A flag may be written `-f v`, `-f=v`, `--f v` or `--f=v`, and with
`-` for `_`. Every action accepts all of the reference's flags, as there; those it does not use draw
a warning.
"""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.proto.caffe_pb2 import NetState

logger = logging.getLogger(__name__)

_SIZE = re.compile(r"([1-9]\d*)[xX]([1-9]\d*)")

EFFECTS = ("stop", "snapshot", "none")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One of the reference's flags."""

    help: str
    type: Callable[[str], object] = str
    default: object = ""
    choices: tuple[str, ...] | None = None


FLAGS = {
    "gpu": Flag(help="run on these GPU ids, separated by ',', or 'all'; the batch size is per GPU"),
    "solver": Flag(help="the solver's prototxt"),
    "model": Flag(help="the net's prototxt"),
    "phase": Flag(help="phase of the net, TRAIN (the default) or TEST"),
    "level": Flag(help="level of the net's state", type=int, default=0),
    "stage": Flag(help="stages of the net's state, separated by ','"),
    "snapshot": Flag(help="solver state to resume from"),
    "weights": Flag(help="weights to start from, separated by ','; not together with -snapshot"),
    "iterations": Flag(help="number of passes (default: 50)", type=int, default=None),
    "sigint_effect": Flag(help="what Ctrl-C does", default="stop", choices=EFFECTS),
    "sighup_effect": Flag(help="what a hangup does", default="snapshot", choices=EFFECTS),
}


class FlagParser(argparse.ArgumentParser):
    """A parser for one action that raises UsageError rather than leaving the process."""

    def __init__(self, action: str, *, description: str, examples: str) -> None:
        super().__init__(
            prog=f"caffe {action}",
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._unused: list[str] = []
        self.add_flag("debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def add_reference_flags(self, *used: str) -> None:
        """Add the flags that this action uses, and quietly all others of the reference."""
        for name, flag in FLAGS.items():
            is_used = name in used
            self.add_flag(
                name,
                type=flag.type,
                default=flag.default if is_used else argparse.SUPPRESS,
                choices=flag.choices,
                help=flag.help if is_used else argparse.SUPPRESS,
            )
        self._unused = [name for name in FLAGS if name not in used]

    def add_flag(self, name: str, **options: object) -> None:
        """Add one flag in all spellings; see `argparse.ArgumentParser.add_argument`."""
        spellings = [f"--{name}", f"-{name}"]
        if "_" in name:
            dashed = name.replace("_", "-")
            spellings += [f"--{dashed}", f"-{dashed}"]
        self.add_argument(*spellings, dest=name, **options)  # type: ignore[arg-type]

    def parse_flags(self, arguments: list[str]) -> argparse.Namespace:
        """Parse, and warn of flags without effect.

        Raises:
            UsageError: an unknown flag or a bad value.
        """
        args = self.parse_args(arguments)
        for name in self._unused:
            if hasattr(args, name):
                logger.warning("-%s has no effect in %s", name, self.prog)
        return args


def add_lenient_flag(parser: FlagParser) -> None:
    """Add the flag of actions that read prototxt of other forks."""
    parser.add_flag(
        "lenient",
        action="store_true",
        help="skip fields that this Caffe does not know, with a warning, instead of stopping",
    )


def add_pixel_flags(parser: FlagParser) -> None:
    """Add the flags of actions that feed a deploy net with pictures."""
    parser.add_flag(
        "mean_value",
        type=_numbers,
        metavar="B,G,R",
        help="subtracted per channel (104,117,123; for nets with one channel 0)",
    )
    parser.add_flag(
        "scale", type=_factor, default=1.0, help="factor after the mean, as 0.017 or 1/255 (1)"
    )


def required(args: argparse.Namespace, *names: str) -> None:
    """Make sure that flags are given.

    Raises:
        UsageError: one is missing.
    """
    for name in names:
        if not getattr(args, name):
            raise UsageError(f"-{name} is missing: {FLAGS[name].help}")


def settle_phase(args: argparse.Namespace, default: str = "") -> None:
    """Make sure that -phase names a phase; where it is not given it becomes the default.

    Raises:
        UsageError: there is no such phase.
    """
    args.phase = args.phase or default
    if args.phase not in ("", "TRAIN", "TEST"):
        raise UsageError(f"-phase must be TRAIN or TEST, got {args.phase!r}")


def check_files(args: argparse.Namespace, *names: str) -> None:
    """Make sure that files can be read, before anything is built or opened.

    Args:
        args: the flags; `weights` may be several files, separated by ','.
        names: flags that name files; one that is not given is passed over.

    Raises:
        FileError: a file cannot be opened.
    """
    for name in names:
        value = getattr(args, name)
        paths = value.split(",") if name == "weights" else [value]
        for path in paths if value else []:
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise FileError(
                    f"Could not open file {path}: {error.strerror} (-{name})"
                ) from error


def net_state(args: argparse.Namespace, phase: int) -> NetState:
    """The state that -level and -stage ask for; without -stage there is one empty stage."""
    state = NetState(phase=phase)  # type: ignore[arg-type]
    state.level = args.level
    state.stage.extend(args.stage.split(","))
    return state


def input_size(text: str) -> tuple[int, int]:
    """The type of flags that take HEIGHTxWIDTH."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"takes height x width, like 300x416, got {text!r}")
    return int(match[1]), int(match[2])


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _factor(text: str) -> float:
    try:
        return float(Fraction(text))
    except ZeroDivisionError as error:
        raise ValueError(text) from error


_numbers.__name__, _factor.__name__ = "list of numbers", "number"  # for argparse's messages
