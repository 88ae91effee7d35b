"""What the user sees: log lines, and on a terminal a progress bar below them.

Spec: caffe-net.md section 20. Everything goes to standard error.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from caffe_ssd.solver.hooks import Observer
from caffe_ssd.solver.log import GlogFormatter, cpp_number

PACKAGES = ("caffe_ssd", "caffe", "lmdb_tools")
_WINDOW_S = 2.0  # the speed shown is that of the last seconds


def set_up_logging(handler: logging.Handler | None = None) -> None:
    """Send our packages' log to standard error, or to `handler`, in Caffe's format."""
    handler = logging.StreamHandler() if handler is None else handler
    handler.setFormatter(GlogFormatter())
    for package in PACKAGES:
        package_logger = logging.getLogger(package)
        package_logger.handlers = [handler]
        package_logger.setLevel(logging.INFO)
        package_logger.propagate = False


def show(text: str) -> None:
    """Print a listing. A reader that has seen enough of it, such as `head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(*, start: int, end: int, images: int) -> Iterator[Observer]:
    """An observer that shows a bar while the block runs; nothing where there is no terminal.

    Args:
        start: the number of completed updates.
        end: `max_iter`.
        images: images per iteration; 0 if unknown.
    """
    if not sys.stderr.isatty():
        yield Observer()
        return
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    ]
    set_up_logging(_AboveBar(console))
    try:
        with Progress(*columns, console=console) as progress:
            yield _Bar(progress, start=start, end=end, images=images)
    finally:
        set_up_logging()


class _AboveBar(logging.Handler):
    """Prints records so that a live bar stays below them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Text(self.format(record)), soft_wrap=True)


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
