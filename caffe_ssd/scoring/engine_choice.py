"""Which engine runs a net, and how it calculates: chosen, checked, and given to the net."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch

from caffe_ssd.data.transform import Transform
from caffe_ssd.devices import has_bfloat16
from caffe_ssd.engines.accelerate import ENGINES, accelerate
from caffe_ssd.engines.engine import FLOAT, Engine
from caffe_ssd.engines.precision import PRECISIONS, Pictures, Precision
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.scoring.calibration import (
    DEFAULT_IMAGES,
    calibration_pictures,
    check_calibration,
)

logger = logging.getLogger(__name__)

PLAIN = "none"
AUTO = "auto"
ON_CUDA = ("auto", "torch", "compile")


@dataclass(frozen=True, kw_only=True)
class EngineChoice:
    """What shall run a net; see `choose_engine`.

    Args:
        engine: a name of `ENGINES`, or none for the plain net.
        precision: one of `PRECISIONS`.
        calibration: folder or database for int8.
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


def choose_engine(
    engine: str | None,
    *,
    device: torch.device,
    default: str,
    precision: str = FLOAT.name,
    calibration: str | None = None,
    images: int | None = None,
) -> EngineChoice:
    """A choice, checked as far as it can be without a net.

    Args:
        engine: a name of `ENGINES`, or none for the plain net; None takes the default, which for
            other precisions than float32 is auto.
        device: where the net will be.
        default: the engine for float32.
        precision: one of `PRECISIONS`.
        calibration: folder or database of pictures for int8.
        images: how many of them to take; None for 200.

    Raises:
        UsageError: something lacks something else, or the engine cannot run there or like that.
    """
    if engine is None:
        engine = default if precision == FLOAT.name else AUTO
    if engine != PLAIN and engine not in ENGINES:
        raise UsageError(f"no engine named {engine!r}; there are: {', '.join((*ENGINES, PLAIN))}")
    if precision not in PRECISIONS:
        raise UsageError(f"no precision named {precision!r}; there are: {', '.join(PRECISIONS)}")
    if engine == PLAIN and precision != FLOAT.name:
        raise UsageError(
            f"precision {precision} needs an engine; engine none is the plain net in float32"
        )
    if device.type == "cuda" and (precision == "int8" or engine not in (*ON_CUDA, PLAIN)):
        what = "precision int8" if engine in ON_CUDA else f"engine {engine}"
        raise UsageError(
            f"{what} runs on the CPU only, not on a GPU, which has the engines torch and compile, "
            "and the precisions fp32 and bf16"
        )
    if engine in ENGINES and precision not in ENGINES[engine].precisions:
        able = [name for name, kind in ENGINES.items() if precision in kind.precisions]
        raise UsageError(
            f"engine {engine} does not calculate in {precision}; these do: {', '.join(able)}"
        )
    check_calibration(precision, calibration, images)
    images = DEFAULT_IMAGES if images is None else images
    return EngineChoice(engine=engine, precision=precision, calibration=calibration, images=images)


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
    if choice.precision == "bf16" and not has_bfloat16(net.device):
        logger.warning("This processor has no instructions for bf16, which will not be faster here")
    pictures: Pictures = ()
    if choice.calibration is not None:
        pictures = calibration_pictures(choice.calibration, choice.images, net, transform)
    engine = accelerate(net, choice.engine, Precision(name=choice.precision, calibration=pictures))
    if engine is None:
        logger.warning("Engine: none; the net has no layers for an engine")
        return None
    # The last batch of a set may be smaller.
    engine.shapes_kept = max(engine.shapes_kept, 2 * sizes)
    if choice.engine != AUTO:  # which says so itself, when it knows
        logger.info("Engine: %s", engine.description)
    return engine
