"""The log of a command in a file of its own, written by the command itself.

A pipe to `tee` would take the terminal from the command, and loses the end of the log when Ctrl-C
reaches `tee`, too. Every line is written at once and whole, so nothing is lost however the command
ends, and several processes may write to one file.
"""

from __future__ import annotations

import logging
import os
import stat
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from caffe_ssd.desk.console import AT_ONCE, PACKAGES, Listener, tell
from caffe_ssd.desk.streams import describe
from caffe_ssd.errors import CaffeError, FileError
from caffe_ssd.log import GlogFormatter


class LogFile(Listener):
    """Appends records in Caffe's format.

    Args:
        path: the file; made if it does not exist.
        start_anew: drop what is in it.

    Raises:
        FileError: it cannot be written.
    """

    def __init__(self, path: str, *, start_anew: bool) -> None:
        super().__init__()
        self.setFormatter(GlogFormatter())
        self._path = path
        self._is_told = False
        self._descriptor = _open(path)
        # Another process may have appended already, so the position is the end's anyway.
        if start_anew and stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.ftruncate(self._descriptor, 0)

    def emit(self, record: logging.LogRecord) -> None:
        self.write_line(self.format(record))

    def write_line(self, text: str) -> None:
        """Append a line as it is; that a disk is full is told once and ends nothing."""
        try:
            os.write(self._descriptor, text.encode(errors="backslashreplace") + b"\n")
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                tell(f"caffe: Could not write the log to {self._path}: {error.strerror}")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


class HeldLines(Listener):
    """Keeps what is logged before the file may be opened.

    Attributes:
        lines: in Caffe's format.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(GlogFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def check_log_file(path: str) -> None:
    """Make sure that a log can be written before any work is done.

    Raises:
        FileError: it cannot.
    """
    os.close(_open(path))


@contextmanager
def logged_to(
    path: str | None, *, start_anew: bool = False, before: Sequence[str] = ()
) -> Iterator[None]:
    """Write our packages' log to a file, too, while the block runs, and how the block failed.

    Args:
        path: the file; nothing is written without one.
        start_anew: drop what is in it.
        before: lines that were logged before.

    Raises:
        FileError: the file cannot be written.
    """
    if path is None:
        yield
        return
    file = LogFile(path, start_anew=start_anew)
    for line in before:
        file.write_line(line)
    try:
        with listening(file):
            yield
    except (CaffeError, OSError, MemoryError) as error:
        text = str(error) if isinstance(error, CaffeError) else describe(error)
        file.write_line(f"caffe: {text}")
        raise
    except KeyboardInterrupt:
        file.write_line(f"caffe: {AT_ONCE}")
        raise
    except Exception:  # a fault of ours
        file.write_line(traceback.format_exc().rstrip())
        raise
    finally:
        file.close()


@contextmanager
def listening(handler: Listener) -> Iterator[None]:
    """Send our packages' log to a further handler while the block runs."""
    loggers = [logging.getLogger(package) for package in PACKAGES]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.addHandler(handler)
        if each.level == logging.NOTSET:
            each.setLevel(logging.INFO)
    try:
        yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.removeHandler(handler)
            each.setLevel(level)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"Could not write the log to {path}: {reason}") from error
