"""What the user of a command sees: log lines, listings, progress bars, one line for an error.

Spec: caffe-net.md section 20. Listings go to standard output, all else to standard error.
Exit statuses: 0 done, 1 failed, 2 the command line makes no sense, 130 stopped by hand.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO, TypeVar

from caffe_ssd.desk import streams
from caffe_ssd.desk.streams import tell
from caffe_ssd.errors import CaffeError, FileError, UsageError
from caffe_ssd.log import GlogFormatter

if TYPE_CHECKING:  # where nothing is shown, nothing of it is imported
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

STOPPED_AT_ONCE = 130  # exit status
AT_ONCE = "stopped at once; what was not saved is lost"
PACKAGES = ("caffe_ssd", "caffe", "lmdb_tools")

__all__ = [
    "is_terminal",
    "live_progress",
    "run_command",
    "set_up_logging",
    "show",
    "stderr_console",
    "tell",
    "track",
    "warnings_only",
]

T = TypeVar("T")


def set_up_logging(handler: logging.Handler | None = None) -> None:
    """Send our packages' log to standard error, or to `handler`, in Caffe's format.

    Files that listen to the log, see `log_file.py`, go on listening.
    """
    handler = _ToStderr() if handler is None else handler
    if handler.formatter is None:
        handler.setFormatter(GlogFormatter())
    for package in PACKAGES:
        package_logger = logging.getLogger(package)
        files = [each for each in package_logger.handlers if isinstance(each, Listener)]
        package_logger.handlers = [handler, *files]
        package_logger.setLevel(logging.INFO)
        package_logger.propagate = False


class Listener(logging.Handler):
    """A handler beside the one that shows the log."""


class _ToStderr(logging.StreamHandler[TextIO]):
    """A command goes on when nobody can be told any more."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report mistakes in log calls, not that the stream is closed or full."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def run_command(
    action: Callable[[Sequence[str]], int | None],
    name: str,
    arguments: Sequence[str] | None = None,
) -> int:
    """Do a command's work, with the log on standard error; expected failures become one line.

    Args:
        action: the work; takes the arguments, returns the exit status, or None for 0.
        name: the command, for messages.
        arguments: None for those of this process. With -debug among them failures are raised.

    Returns:
        The exit status.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    streams.prepare()
    with _logging_restored():
        set_up_logging()
        try:
            status = action(arguments)
        except (CaffeError, OSError, MemoryError, ImportError) as error:
            is_bug = isinstance(error, ImportError) and not streams.is_out_of_descriptors(error)
            if is_bug or any(word in ("-debug", "--debug") for word in arguments):
                raise
            text = str(error) if isinstance(error, CaffeError) else streams.describe(error)
            tell(f"{name}: {text}")
            status = 2 if isinstance(error, UsageError) else 1
        except KeyboardInterrupt:
            tell(f"{name}: {AT_ONCE}")
            status = STOPPED_AT_ONCE
        except SystemExit as leaving:  # after a help text
            status = leaving.code if isinstance(leaving.code, int) else 0
    return streams.finish(name, 0 if status is None else status)


def show(text: str) -> None:
    """Print a listing. A reader that has seen enough of it, such as `head`, is no error.

    Raises:
        FileError: standard output cannot be written, as when a disk is full.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        # Python writes what is left as it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            text = f"Could not write to standard output: {error.strerror}"
            raise FileError(text) from error


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items; on a terminal a bar shows how many are done."""
    if not is_terminal():
        yield from items
        return
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = [*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()]
    with live_progress(*columns, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether somebody looks at a stream; without one, at standard error."""
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty()


@contextmanager
def live_progress(
    *columns: str | ProgressColumn, transient: bool = False, console: Console | None = None
) -> Iterator[Progress]:
    """A progress bar while the block runs, which stays below the log's lines.

    Args:
        columns: what it consists of.
        transient: it vanishes at the end.
        console: where to show it; without one, standard error.
    """
    from rich.progress import Progress

    console = stderr_console() if console is None else console
    with _logging_restored():
        shown = [h for h in logging.getLogger(PACKAGES[0]).handlers if not isinstance(h, Listener)]
        if shown and not isinstance(shown[0], _Warnings):
            set_up_logging(_AboveBar(console))
        # What is printed goes above the bar, unless it goes elsewhere.
        above = is_terminal(sys.stdout)
        progress = Progress(*columns, console=console, transient=transient, redirect_stdout=above)
        with streams.without_echoed_signals(), progress:
            yield progress


@contextmanager
def warnings_only() -> Iterator[Console]:
    """Show nothing but warnings of our packages' log while the block runs, in plain words.

    Yields:
        Where they are shown; other lines and a bar may be, too.
    """
    console = stderr_console()
    with _logging_restored():
        set_up_logging(_Warnings(console))
        yield console


def stderr_console() -> Console:
    """Standard error, for lines above a bar."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False)


@contextmanager
def _logging_restored() -> Iterator[None]:
    """Leave the packages' logging as it was before the block."""
    loggers = [logging.getLogger(package) for package in PACKAGES]
    before = [(list(each.handlers), each.level, each.propagate) for each in loggers]
    try:
        yield
    finally:
        for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
            each.handlers, each.propagate = handlers, propagate
            each.setLevel(level)


class _AboveBar(logging.Handler):
    """Prints records so that a live bar stays below them."""

    style = ""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        with suppress(OSError):  # a command goes on when nobody can be told any more
            self._console.print(Text(self.format(record), self.style), soft_wrap=True)


class _Warnings(_AboveBar):
    """Shows warnings of ours without what a log puts before them."""

    style = "yellow"

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter("warning: %(message)s"))
        # The original has a warning for each class without detections in each test.
        self.addFilter(lambda record: not hasattr(record, "caffe_source"))
