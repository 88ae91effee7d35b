"""The progress bar of a training run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from caffe_ssd.desk.console import is_terminal, live_progress
from caffe_ssd.log import cpp_number
from caffe_ssd.solver.hooks import Observer

_WINDOW_S = 2.0  # the speed shown is that of the last seconds
_WIDE = 110  # columns of a terminal with room for a long bar


@contextmanager
def training_bar(
    *, start: int, end: int, images: int, console: Console | None = None
) -> Iterator[Observer]:
    """An observer that shows a bar while the block runs; nothing where there is no terminal.

    Args:
        start: the number of completed updates.
        end: `max_iter`.
        images: images per iteration; 0 if unknown.
        console: see `live_progress`.
    """
    if not is_terminal():
        yield Observer()
        return
    is_wide = console is not None and console.width >= _WIDE
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=40 if is_wide else 16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
    ]
    with live_progress(*columns, console=console) as progress:
        bar = _Bar(progress, start=start, end=end, images=images)
        yield bar
        bar.rest()


class _Bar(Observer):
    def __init__(self, progress: Progress, *, start: int, end: int, images: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=end, completed=start, status="starting")
        self._images = images
        self._end = end
        self._status = ""
        self._speed = ""
        self._left = ""
        self._since, self._from = time.monotonic(), start
        self._first: tuple[float, int] | None = None

    def on_iteration(self, iteration: int) -> None:
        now = time.monotonic()
        elapsed = now - self._since
        if elapsed >= _WINDOW_S:
            per_second = (iteration - self._from) / elapsed
            unit = "images/s" if self._images else "it/s"
            self._speed = f"{per_second * max(self._images, 1):.3g} {unit}"
            self._since, self._from = now, iteration
            self._estimate(now, iteration)
        self._show("training", iteration)

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        self._status = f"loss {cpp_number(loss)}  rate {cpp_number(rate)}"

    def on_test_batch(self, index: int, done: int, total: int) -> None:
        self._show(f"testing {done}/{total}")

    def rest(self) -> None:
        """Nothing more comes."""
        self._speed = self._left = ""
        self._show("training")

    def _estimate(self, now: float, iteration: int) -> None:
        """By all that was done so far, tests and snapshots included, but for the first window."""
        if self._first is None:
            self._first = now, iteration
            return
        since, start = self._first
        left = (now - since) / (iteration - start) * (self._end - iteration)
        self._left = f"{clock(left)} left"

    def _show(self, what: str, completed: int | None = None) -> None:
        parts = (self._status, self._speed, self._left)
        status = "  ".join(part for part in parts if part)
        self._progress.update(self._task, description=what, completed=completed, status=status)


def clock(seconds: float) -> str:
    """A time as 5:03 or 1:05:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
