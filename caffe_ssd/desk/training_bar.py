"""The progress bar of a training run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caffe_ssd.desk.console import is_terminal, live_progress
from caffe_ssd.log import cpp_number
from caffe_ssd.solver.hooks import Observer

_WINDOW_S = 2.0  # the speed shown is that of the last seconds


@contextmanager
def training_bar(*, start: int, end: int, images: int) -> Iterator[Observer]:
    """An observer that shows a bar while the block runs; nothing where there is no terminal.

    Args:
        start: the number of completed updates.
        end: `max_iter`.
        images: images per iteration; 0 if unknown.
    """
    if not is_terminal():
        yield Observer()
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    ]
    with live_progress(*columns) as progress:
        yield _Bar(progress, start=start, end=end, images=images)


class _Bar(Observer):
    def __init__(self, progress: Progress, *, start: int, end: int, images: int) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=end, completed=start, status="")
        self._images = images
        self._status = ""
        self._speed = ""
        self._since, self._from = time.monotonic(), start

    def on_iteration(self, iteration: int) -> None:
        elapsed = time.monotonic() - self._since
        if elapsed >= _WINDOW_S:
            per_second = (iteration - self._from) / elapsed
            unit = "images/s" if self._images else "it/s"
            self._speed = f"{per_second * max(self._images, 1):.3g} {unit}"
            self._since, self._from = time.monotonic(), iteration
        self._show("training", iteration)

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        self._status = f"loss {cpp_number(loss)}  lr {cpp_number(rate)}"

    def on_test_batch(self, index: int, done: int, total: int) -> None:
        self._show(f"testing {done}/{total}")

    def _show(self, what: str, completed: int | None = None) -> None:
        status = "  ".join(part for part in (self._status, self._speed) if part)
        self._progress.update(self._task, description=what, completed=completed, status=status)
