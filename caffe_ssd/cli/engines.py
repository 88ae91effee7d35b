"""The flags of engines, for `caffe detect`, `caffe test` and `caffe time`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass

import torch

from caffe_ssd.cli.calibration import CalibrationPictures, open_pictures, own_transform
from caffe_ssd.cli.flags import FlagParser
from caffe_ssd.data.transform import Transform
from caffe_ssd.engines.accelerate import ENGINES, accelerate
from caffe_ssd.engines.engine import FLOAT, Engine
from caffe_ssd.engines.precision import PRECISIONS, Precision
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net

logger = logging.getLogger(__name__)

PLAIN = "none"
AUTO = "auto"
ON_CUDA = ("auto", "torch", "compile")
DEFAULT_IMAGES = 200

_CALIBRATION_HELP = "a few hundred pictures of the kind the net is for, not those of the test set"


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What the flags ask for.

    Args:
        engine: a name of `ENGINES`, or none for the plain net.
        precision: one of `PRECISIONS`.
        calibration: folder or data base for int8.
        images: how many pictures of it to take.
    """

    engine: str
    precision: str = FLOAT.name
    calibration: str | None = None
    images: int = DEFAULT_IMAGES

    @property
    def is_plain(self) -> bool:
        """Whether the net runs as it is."""
        return self.engine == PLAIN

    @property
    def is_exact(self) -> bool:
        """Whether everything is calculated in float32."""
        return self.precision == FLOAT.name


def add_engine_flags(parser: FlagParser, default: str) -> None:
    """Add the flags.

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
    parser.add_flag(
        "calibration",
        metavar="LMDB|FOLDER",
        default=None,
        help=f"for int8: {_CALIBRATION_HELP}",
    )
    parser.add_flag(
        "calibration_images",
        type=int,
        metavar="N",
        default=None,
        help=f"how many of them to take ({DEFAULT_IMAGES})",
    )


def read_choice(args: argparse.Namespace, device: torch.device, default: str) -> EngineChoice:
    """What the flags ask for, checked as far as it can be without a net.

    Args:
        args: the flags of `add_engine_flags`.
        device: where the net will be.
        default: the engine without -engine, in float32.

    Raises:
        UsageError: a flag lacks another, or the engine cannot run there or like that.
    """
    precision = args.precision
    exact = precision == FLOAT.name
    engine = args.engine
    if engine is None:
        engine = default if exact else AUTO
    if engine == PLAIN and not exact:
        raise UsageError(
            f"-precision {precision} needs an engine; -engine none is the plain net in float32"
        )
    if device.type == "cuda" and (precision == "int8" or engine not in (*ON_CUDA, PLAIN)):
        what = "-precision int8" if engine in ON_CUDA else f"-engine {engine}"
        raise UsageError(
            f"{what} runs on the CPU only, so it excludes -gpu; a GPU has -engine torch and "
            "compile, and -precision fp32 and bf16"
        )
    if engine in ENGINES and precision not in ENGINES[engine].precisions:
        able = [name for name, kind in ENGINES.items() if precision in kind.precisions]
        raise UsageError(
            f"-engine {engine} does not calculate in {precision}; these do: {', '.join(able)}"
        )
    check_calibration(args)
    return EngineChoice(
        engine=engine, precision=precision, calibration=args.calibration, images=num_images(args)
    )


def check_calibration(args: argparse.Namespace) -> None:
    """Make sure that int8 has pictures, and nothing else has.

    Raises:
        UsageError: it has none, or the flags belong to nothing.
    """
    if args.precision == "int8" and args.calibration is None:
        raise UsageError(
            f"-precision int8 needs -calibration with a folder or an LMDB: {_CALIBRATION_HELP}"
        )
    for name in ("calibration", "calibration_images"):
        if getattr(args, name) is not None and args.precision != "int8":
            raise UsageError(f"-{name} belongs to -precision int8")
    if num_images(args) < 1:
        raise UsageError(f"-calibration_images must be at least 1, got {args.calibration_images}")
    if args.calibration is not None:
        open_pictures(args.calibration)


def num_images(args: argparse.Namespace) -> int:
    """How many pictures -calibration_images asks for."""
    return DEFAULT_IMAGES if args.calibration_images is None else int(args.calibration_images)


def calibration(
    path: str, images: int, net: Net, transform: Transform | None = None
) -> CalibrationPictures:
    """The pictures of -calibration as the net takes them.

    Args:
        path: folder or LMDB.
        images: how many to take.
        net: takes them.
        transform: prepares them; None for the net's own way.
    """
    source = open_pictures(path)
    transform = own_transform(net) if transform is None else transform
    pictures = CalibrationPictures(source, transform, images)
    logger.info("Calibrating int8 with %d of %d pictures in %s", len(pictures), len(source), path)
    return pictures


def give_engine(
    net: Net, choice: EngineChoice, *, transform: Transform | None = None, sizes: int = 1
) -> Engine | None:
    """Let the chosen engine run the net's greater part.

    Args:
        net: with its weights, on its device.
        choice: which engine.
        transform: prepares pictures for int8; None for the net's own way.
        sizes: at how many sizes the net will be run.

    Returns:
        The engine; None for the plain net.

    Raises:
        UsageError: the engine is not installed.
    """
    if choice.is_plain:
        return None
    precision = (
        Precision(name=choice.precision)
        if choice.calibration is None
        else Precision(
            name=choice.precision,
            calibration=calibration(choice.calibration, choice.images, net, transform),
        )
    )
    engine = accelerate(net, choice.engine, precision)
    if engine is None:
        logger.warning("Engine: none; the net has no layers for an engine")
        return None
    # The last batch of a set may be smaller.
    engine.shapes_kept = max(engine.shapes_kept, 2 * sizes)
    if choice.engine != AUTO:  # which says so itself, when it knows
        logger.info("Engine: %s", engine.description)
    return engine
