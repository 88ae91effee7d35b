"""What all tools share on the terminal: log lines, a progress bar, exit codes.

Log lines look like the reference's (glog): `I1121 07:19:43.339010  8379 tool.py:122] text`.
Exit codes: 0 done, 1 failed, 2 the command line makes no sense.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from threading import get_native_id
from typing import TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from caffe_ssd.errors import CaffeError, UsageError

T = TypeVar("T")

logger = logging.getLogger("lmdb_tools")


class GlogFormatter(logging.Formatter):
    """Formats records as glog does, without the year."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%m%d %H:%M:%S.%f")
        letter = "F" if record.levelno >= logging.CRITICAL else record.levelname[0]
        where = f"{record.filename}:{record.lineno}"
        return f"{letter}{time} {get_native_id():5d} {where}] {record.getMessage()}"


class _StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever `sys.stderr` is at that moment (a progress bar replaces it)."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def run_tool(action: Callable[[], None], name: str) -> int:
    """Run a tool's work and turn expected failures into one line and an exit code.

    Args:
        action: the work.
        name: the tool's name, for messages.

    Returns:
        0 done, 1 failed, 2 usage, 130 interrupted.
    """
    handler = _StderrHandler()
    handler.setFormatter(GlogFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        action()
    except UsageError as error:
        print(f"{name}: {error}\nTry: {name} --help", file=sys.stderr)
        return 2
    except CaffeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return 0


def track(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items; on a terminal a bar on stderr shows how many are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    columns = [*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=what)
