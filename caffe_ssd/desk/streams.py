"""Standard streams as they may be found: closed, full, of another encoding, or with nobody reading.

A closed stream's number would go to the next file that is opened, a database perhaps, and what is
printed would go into it. So closed streams are opened first, on nothing.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress

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
