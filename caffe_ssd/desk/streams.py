"""Standard streams as they may be found: closed, full, of another encoding, or with nobody reading.

A closed stream's number would go to the next file that is opened, a database perhaps, and what is
printed would go into it. So closed streams are opened first, on nothing.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_LOCAL_FLAGS = 3  # their place among a terminal's settings
_echoed: list[list[Any]] = []  # settings of the terminal before the blocks that changed them
_OUT_OF_DESCRIPTORS = "Too many open files"


def prepare() -> None:
    """Open the streams that are closed; print what an encoding lacks as escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # What is printed must not be lost in silence: writing to this stdout fails.
            opened = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream in (sys.__stdout__, sys.__stderr__):
            stream.reconfigure(errors="backslashreplace")


def tell(text: str) -> None:
    """Print a message on standard error, if anybody can be told."""
    if sys.stderr is not None:  # print would take standard output
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


@contextmanager
def without_echoed_signals() -> Iterator[None]:
    """Keep a terminal from writing ^C into a bar while the block runs."""
    before = _terminal_settings()
    if before is None:
        yield
        return
    termios: Any = importlib.import_module("termios")
    settings = [*before]
    settings[_LOCAL_FLAGS] = before[_LOCAL_FLAGS] & ~termios.ECHOCTL
    _echoed.append(before)
    try:
        _set_terminal(settings)
        yield
    finally:
        _echoed.pop()
        _set_terminal(before)


def leave_terminal() -> None:
    """Before a process ends at once: show the cursor that a bar hides, and what is typed."""
    if not _echoed:
        return
    _set_terminal(_echoed[0])
    tell("\x1b[?25h")


def _terminal_settings() -> list[Any] | None:
    """Those of standard error's terminal; None if there is none, or none that can be asked."""
    try:
        termios = importlib.import_module("termios")
    except ImportError:  # another kind of system
        return None
    try:
        return list(termios.tcgetattr(sys.stderr.fileno()))
    except (termios.error, OSError, ValueError, AttributeError):
        return None


def _set_terminal(settings: list[Any]) -> None:
    termios: Any = importlib.import_module("termios")
    with suppress(termios.error, OSError, ValueError, AttributeError):
        termios.tcsetattr(sys.stderr.fileno(), termios.TCSANOW, settings)


def finish(name: str, status: int) -> int:
    """Write out what is still to be written.

    Args:
        name: the command, for messages.
        status: its exit status.

    Returns:
        The status, 1 instead of 0 if that fails.
    """
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # a reader that has seen enough
        _discard_stdout()
    except (OSError, ValueError) as error:
        _discard_stdout()
        tell(f"{name}: Could not write to standard output: {describe(error)}")
        return status if status else 1
    return status


def describe(error: BaseException) -> str:
    """One line about something that the system refused."""
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; see ulimit -n"
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    name = getattr(error, "filename", None)
    return str(reason) if name is None else f"{name}: {reason}"


def is_out_of_descriptors(error: ImportError) -> bool:
    """Whether a module was not imported because no more files can be open."""
    return _OUT_OF_DESCRIPTORS in str(error)


def _discard_stdout() -> None:
    """Have the interpreter's last flush succeed."""
    with suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
