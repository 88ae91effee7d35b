"""The progress of a job of many like things: how many are done, how quickly, and how long it takes.

On a terminal it is a bar; elsewhere a log line now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from caffe_ssd.desk.console import is_terminal, live_progress

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOG_EVERY_S = 10.0


class SpeedMeter:
    """How far a job is.

    Args:
        total: how many things there are; None if nobody knows.
        unit: what they are called.
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self._start = time.monotonic()
        self._first = self._start

    def count(self) -> None:
        """One more is done. The clock of the speed starts after the first, which prepares."""
        self.done += 1
        if self.done == 1:
            self._first = time.monotonic()

    @property
    def speed(self) -> float:
        """Things per second, without what comes before the first."""
        return (self.done - 1) / max(time.monotonic() - self._first, 1e-9)

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        text = f"{self.done}{of} {self.unit}, {self.speed:.3g} {self.unit}/s"
        if self.total is not None and self.speed > 0:
            text += f", {max(self.total - self.done, 0) / self.speed:.0f} s left"
        return text

    def summary(self) -> str:
        """What is told at the end."""
        elapsed = time.monotonic() - self._start
        speed = f", {self.speed:.3g} {self.unit}/s after the first" if self.done > 1 else ""
        return f"{self.done} {self.unit} in {elapsed:.1f} s{speed}"


def track_speed(items: Iterable[T], meter: SpeedMeter, what: str) -> Iterator[T]:
    """Yield the items and show how far they are.

    Args:
        items: are counted when the next one is asked for.
        meter: counts them.
        what: is done to them.
    """
    if not is_terminal():
        last = time.monotonic()
        for item in items:
            yield item
            meter.count()
            if time.monotonic() - last >= _LOG_EVERY_S:
                last = time.monotonic()
                logger.info("%s", meter)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    with live_progress(*columns, transient=True) as progress:
        task = progress.add_task(what, total=meter.total, speed="")
        for item in items:
            yield item
            meter.count()
            speed = f"{meter.speed:.3g} {meter.unit}/s" if meter.done > 1 else ""
            progress.update(task, completed=meter.done, speed=speed)
