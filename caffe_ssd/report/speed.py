"""How fast a detector is here, per engine and precision; a few pictures each, in a box of time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caffe_ssd.engines.accelerate import ENGINES
from caffe_ssd.errors import CaffeError, first_line
from caffe_ssd.report.run_files import RunFiles
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.engine_choice import AUTO, ON_CUDA, PLAIN
from caffe_ssd.scoring.sources import Picture

LONGEST_S = 20.0
_EACH_S = 1.2
_FEWEST = 3
_SLOW_TO_START = ("compile",)  # about a minute
_PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One way to run a detector.

    Args:
        engine: none is the plain net.
        precision: how it calculates.
        ms: median time for a picture, everything included; None where it could not run.
        reason: why it could not.
    """

    engine: str
    precision: str
    ms: float | None
    reason: str = ""


def measure(
    files: RunFiles,
    pictures: Sequence[Picture],
    *,
    device: torch.device,
    longest_s: float = LONGEST_S,
    **settings: Any,
) -> list[Speed]:
    """Measure a detector picture by picture: decoded pixels in, objects out.

    Args:
        files: with a deploy net and weights.
        pictures: one or more.
        device: where.
        longest_s: no further way is begun after so many seconds.
        settings: further ones of `Detector`.
    """
    end = time.perf_counter() + longest_s
    speeds = []
    for engine, precision in _ways(device):
        if time.perf_counter() > end:
            speeds.append(Speed(engine=engine, precision=precision, ms=None, reason="no time left"))
            continue
        try:
            detector = Detector(
                str(files.deploy),
                files.weights,
                engine=engine,
                precision=precision,
                device=device,
                batch=1,
                **settings,
            )
            ms = _median_ms(detector, pictures, end)
            speeds.append(Speed(engine=engine, precision=precision, ms=ms))
        except CaffeError as error:
            why = first_line(error)
            speeds.append(Speed(engine=engine, precision=precision, ms=None, reason=why))
    return speeds


def _ways(device: torch.device) -> Iterator[tuple[str, str]]:
    yield PLAIN, _PRECISIONS[0]
    for precision in _PRECISIONS:
        for name, kind in ENGINES.items():
            fits = device.type != "cuda" or name in ON_CUDA
            if name not in (AUTO, *_SLOW_TO_START) and precision in kind.precisions and fits:
                yield name, precision


def _median_ms(detector: Detector, pictures: Sequence[Picture], end: float) -> float:
    list(detector.stream([pictures[0]]))  # prepares the engine
    times: list[float] = []
    stop = min(time.perf_counter() + _EACH_S, end)
    while len(times) < _FEWEST or time.perf_counter() < stop:
        picture = pictures[len(times) % len(pictures)]
        start = time.perf_counter()
        list(detector.stream([picture]))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)
