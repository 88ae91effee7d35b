"""The flags that actions of `caffe` share: the reference's, and those of nets, engines and scales.

Spec: caffe-net.md section 19. Every action accepts all of the reference's flags, as there; those it
does not use draw a warning.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch

from caffe_ssd import devices
from caffe_ssd.desk.flags import FlagParser, about_flag
from caffe_ssd.engines.accelerate import ENGINES
from caffe_ssd.engines.engine import FLOAT
from caffe_ssd.engines.precision import PRECISIONS
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.proto.caffe_pb2 import NetState, Phase
from caffe_ssd.proto.lenient import Lenience
from caffe_ssd.scoring.calibration import ADVICE, DEFAULT_IMAGES
from caffe_ssd.scoring.engine_choice import PLAIN, EngineChoice, choose_engine
from caffe_ssd.scoring.multi_scale import MERGES
from caffe_ssd.scoring.scales import MultiScale, Scale

logger = logging.getLogger(__name__)

# As in layers/python.py, whose import would take a second.
FORBIDDING = "CAFFE_NO_PYTHON_LAYERS"
EFFECTS = ("stop", "snapshot", "none")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One of the reference's flags."""

    help: str
    type: Callable[[str], object] = str
    default: object = ""
    choices: tuple[str, ...] | None = None


FLAGS = {
    "gpu": Flag(help="id of the GPU to run on; the CPU if absent"),
    "solver": Flag(help="the solver's prototxt"),
    "model": Flag(help="the net's prototxt"),
    "phase": Flag(help="phase of the net, TRAIN or TEST"),
    "level": Flag(help="level of the net's state (%(default)s)", type=int, default=0),
    "stage": Flag(help="stages of the net's state, separated by ','"),
    "snapshot": Flag(help="solver state to resume from"),
    "weights": Flag(help="the net's weights, one or more files separated by ','"),
    "iterations": Flag(help="number of passes (50)", type=int, default=None),
    "sigint_effect": Flag(help="what Ctrl-C does (%(default)s)", default="stop", choices=EFFECTS),
    "sighup_effect": Flag(
        help="what a hangup does (%(default)s)", default="snapshot", choices=EFFECTS
    ),
}


class ActionParser(FlagParser):
    """A parser for one action of `caffe`."""

    def __init__(self, action: str, *, description: str, examples: str) -> None:
        super().__init__(f"caffe {action}", description=description, examples=examples)
        self.add_switch(
            "no_python_layers",
            help=f"refuse nets that name Python code to run, as {FORBIDDING}=1 does",
        )
        self._unused: list[str] = []

    def add_reference_flags(self, *used: str, **told: str) -> None:
        """Add the flags that this action uses, and quietly all others of the reference.

        Args:
            used: names.
            told: names, and what the flag means here where that is something of its own.
        """
        for name, flag in FLAGS.items():
            is_used = name in used or name in told
            self.add_flag(
                name,
                type=flag.type,
                default=flag.default if is_used else argparse.SUPPRESS,
                choices=flag.choices,
                help=told.get(name, flag.help) if is_used else argparse.SUPPRESS,
            )
        self._unused = [name for name in FLAGS if name not in used and name not in told]

    def parse_action(self, arguments: list[str]) -> argparse.Namespace:
        """Parse, and warn of flags without effect.

        Raises:
            UsageError: an unknown flag, a missing or a bad value.
        """
        args = self.parse_flags(arguments)
        if args.no_python_layers:
            os.environ[FORBIDDING] = "1"  # for the processes of other devices, too
        for name in self._unused:
            if hasattr(args, name):
                logger.warning("-%s has no effect in %s", name, self.prog)
        if hasattr(args, "skip"):
            args.lenient = Lenience(harmless=args.lenient, skip=frozenset(args.skip.split(",")))
        return args


def add_unfilled_flag(parser: FlagParser) -> None:
    """Add the flag of actions that need weights for the whole net."""
    parser.add_switch(
        "allow_unfilled",
        help="go on where -weights does not fill all learnable layers of the net",
    )


def required(args: argparse.Namespace, *names: str) -> None:
    """Make sure that flags are given.

    Raises:
        UsageError: one is missing.
    """
    for name in names:
        if not getattr(args, name):
            raise UsageError(f"-{name} is missing: {FLAGS[name].help}")


def at_least(args: argparse.Namespace, name: str, least: int) -> None:
    """Make sure that a number, where it is given, is not too small.

    Raises:
        UsageError: it is.
    """
    value = getattr(args, name)
    if value is not None and value < least:
        raise UsageError(f"-{name} must be at least {least}, got {value}")


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
        paths = weights_of(args) if name == "weights" else [value] if value else []
        for path in paths:
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                raise FileError(
                    f"Could not open file {path}: {error.strerror} (-{name})"
                ) from error


def weights_of(args: argparse.Namespace) -> list[str]:
    """The files of -weights."""
    return args.weights.split(",") if args.weights else []


def only_device(args: argparse.Namespace) -> torch.device:
    """The device of an action that uses one: the first of -gpu, or the CPU.

    Raises:
        UsageError: -gpu makes no sense, or the machine has no such GPU.
    """
    with about_flag("gpu"):
        return devices.choose_devices(args.gpu)[0]


def net_state(args: argparse.Namespace, phase: str) -> NetState:
    """The state that -level and -stage ask for; without -stage there is one empty stage."""
    stages = args.stage.split(",")
    return NetState(phase=Phase.Value(phase), level=args.level, stage=stages)  # type: ignore[arg-type]


def add_lenient_flag(parser: FlagParser) -> None:
    """Add the flags of actions that read prototxt of other forks."""
    parser.add_switch(
        "lenient",
        help="skip unknown fields that cannot change a result, with a warning, instead of stopping",
    )
    parser.add_flag(
        "skip",
        metavar="FIELD,...",
        default=argparse.SUPPRESS,
        help="skip these unknown fields, too, whatever they are for",
    )


def add_workers_flag(parser: FlagParser, whose: str = "") -> None:
    """Add the flag of actions that read databases."""
    parser.add_flag(
        "workers",
        type=int,
        default=None,
        help=f"data worker processes{whose} (by the number of cores)",
    )


def add_tf32_flag(parser: FlagParser) -> None:
    """Add the flag of actions that may run on a GPU."""
    parser.add_switch("tf32", help="allow TF32: faster, other numbers")


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
    parser.add_flag(
        "input_size", type=height_width, metavar="HxW", help="size of the net's input (its own)"
    )


def add_engine_flags(parser: FlagParser, default: str) -> None:
    """Add the flags of engines.

    Args:
        parser: gets them.
        default: the engine without -engine, for the help.
    """
    parser.add_flag(
        "engine",
        choices=(*ENGINES, PLAIN),
        default=None,
        help="what runs the net: auto is the fastest installed one that gives the same numbers, "
        f"none the plain net ({default}; with another -precision auto)",
    )
    add_precision_flags(parser, PRECISIONS)


def add_precision_flags(parser: FlagParser, precisions: tuple[str, ...]) -> None:
    """Add the flags that say how to calculate."""
    parser.add_flag(
        "precision",
        choices=precisions,
        default=FLOAT.name,
        help="how the engine calculates (%(default)s)",
    )
    parser.add_flag("calibration", metavar="LMDB|FOLDER", default=None, help=f"for int8: {ADVICE}")
    parser.add_flag(
        "calibration_images",
        type=int,
        metavar="N",
        default=None,
        help=f"how many of them to take ({DEFAULT_IMAGES})",
    )


def engine_of(args: argparse.Namespace, device: torch.device, default: str) -> EngineChoice:
    """The engine that the flags of `add_engine_flags` ask for; see `choose_engine`."""
    return choose_engine(
        args.engine,
        device=device,
        default=default,
        precision=args.precision,
        calibration=args.calibration,
        images=args.calibration_images,
    )


def add_scale_flags(parser: FlagParser) -> None:
    """Add the flags of several looks at each picture."""
    parser.add_flag(
        "scales",
        type=_scales,
        metavar="S,...",
        help="run the net at several sizes: factors (0.8,1,1.2), pixels of the shorter side "
        "(300,400) or HxW",
    )
    parser.add_switch("flip", help="look at the mirrored pictures, too")
    parser.add_flag(
        "merge",
        choices=MERGES,
        default=None,
        help="how the detections of all runs become one list: NMS, then box voting (vote, the "
        "default), or NMS alone (nms)",
    )
    parser.add_flag(
        "vote_threshold",
        type=float,
        default=None,
        help="overlap above which a box has a vote (0.5)",
    )
    parser.add_flag(
        "object_sizes",
        type=_ranges,
        metavar="LOW:HIGH,...",
        help="per scale, the sides of objects to believe, as parts of the picture's; all if absent",
    )


def scales_of(args: argparse.Namespace) -> MultiScale | None:
    """What the flags of `add_scale_flags` ask for; None for the plain net.

    Raises:
        UsageError: a flag is given that needs others, or its value makes no sense.
    """
    asked = args.scales is not None or args.flip
    given = {
        name: getattr(args, name)
        for name in ("merge", "vote_threshold", "object_sizes")
        if getattr(args, name) is not None
    }
    if given and not asked:
        raise UsageError(f"-{next(iter(given))} belongs to -scales or -flip; neither is given")
    if args.vote_threshold is not None and args.merge == "nms":
        raise UsageError("-vote_threshold belongs to -merge vote")
    if not asked:
        return None
    scales = (1.0,) if args.scales is None else args.scales
    return MultiScale(scales=scales, flip=args.flip, **given)


def height_width(text: str) -> tuple[int, int]:
    """The type of flags that take HEIGHTxWIDTH."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"takes height x width, like 300x416, got {text!r}")
    return int(height), int(width)


def _scales(text: str) -> tuple[Scale, ...]:
    return tuple(_scale(word.strip()) for word in text.split(","))


def _scale(word: str) -> Scale:
    try:
        return height_width(word) if "x" in word.lower() else float(word)
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            "takes factors like 0.8, pixels of the shorter side like 400, or HxW like 300x416; "
            f"got {word!r}"
        ) from None


def _ranges(text: str) -> tuple[tuple[float, float], ...]:
    return tuple(_range(word) for word in text.split(","))


def _range(word: str) -> tuple[float, float]:
    low, colon, high = word.partition(":")
    try:
        numbers = float(low), float(high)
    except ValueError:
        numbers = 1.0, 0.0
    if not colon or not 0 <= numbers[0] < numbers[1]:
        raise argparse.ArgumentTypeError(f"takes ranges like 0.1:0.5, got {word!r}")
    return numbers


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _factor(text: str) -> float:
    try:
        return float(Fraction(text))
    except ZeroDivisionError as error:
        raise ValueError(text) from error


_numbers.__name__, _factor.__name__ = "list of numbers", "number"  # for argparse's messages
