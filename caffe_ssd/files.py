"""Reads whole files, and writes them so that a crash leaves the old content or the new one.

Only regular files are read, up to a stated length: a pipe may never end, and `/dev/zero` does not.

New content goes to a temporary name in the same folder, reaches the disk, and then takes the
target's name in one step. The temporary name says which process of which machine made it, so that
what a killed process left behind can be told from what another one is writing. Something that is
no regular file (a pipe, `/dev/stdout`) is written to directly: it has no name to take over.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from caffe_ssd.errors import DataError, FileError

PathLike = str | os.PathLike[str]

MAX_BYTES = 2**31 - 1
"""The longest file that is read whole: what a protobuf file may have."""
MAX_TEXT_BYTES = 1 << 28
"""The longest text, such as a prototxt, a list of images or a result file."""

_MIB = 1 << 20


def read_bytes(path: PathLike, *, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; a link is followed.
        limit: the most bytes it may have.

    Raises:
        FileError: it cannot be read, is no regular file (a folder, pipe or device), or is longer.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise FileError(f"Could not open file {name!r}: no file name holds a zero byte")
    try:
        # Opening a pipe would wait for its writer.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"Could not open file {name}: it is {_kind(status.st_mode)}")
            if status.st_size > limit:
                raise FileError(
                    f"Could not read file {name}: it has {status.st_size / _MIB:.0f} MiB, and "
                    f"files of its kind may have {limit / _MIB:.0f} MiB"
                )
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(limit)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
        reason = getattr(error, "strerror", None)
        raise FileError(f"Could not open file {name}: {reason if reason else error}") from error


def read_text(path: PathLike, *, limit: int = MAX_TEXT_BYTES, errors: str = "strict") -> str:
    """The content of a text file in UTF-8; a byte order mark is dropped.

    Args:
        path: see `read_bytes`.
        limit: see `read_bytes`.
        errors: what to do with bytes that are not UTF-8, as `bytes.decode` understands it.

    Raises:
        FileError: see `read_bytes`.
        DataError: it is no such text.
    """
    data = read_bytes(path, limit=limit)
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DataError(
            f"{os.fspath(path)}:{line}: holds a zero byte, so it is no text file in UTF-8"
        )
    try:
        return data.decode("utf-8-sig", errors=errors)
    except UnicodeDecodeError as error:
        raise DataError(f"{os.fspath(path)}: not a text file in UTF-8: {error}") from error


def check_regular(path: PathLike) -> None:
    """Check that a path names a regular file, for libraries that open it themselves.

    Raises:
        FileError: it does not.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise FileError(f"Could not open file {name!r}: no file name holds a zero byte")
    try:
        status = os.stat(name)
        with open(name, "rb") if stat.S_ISREG(status.st_mode) else nullcontext():
            pass
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
        reason = getattr(error, "strerror", None)
        raise FileError(f"Could not open file {name}: {reason if reason else error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"Could not open file {name}: it is {_kind(status.st_mode)}")


def _kind(mode: int) -> str:
    """What something that is no regular file is, in words."""
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((words for is_kind, words in kinds if is_kind(mode)), "a device")


_MOST_KEPT = 50  # characters of the target's name: the whole must fit into 255 bytes
_TEMPORARY = re.compile(
    r"\.(?P<target>.+)\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.tmp"
)


@contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when the block ends well.

    A link is followed; an existing file's permissions are kept. When the block raises, nothing is
    left behind and the old file stays as it was.

    Args:
        path: the target; its folder must exist.

    Yields:
        A binary file that can be read, written and positioned.

    Raises:
        FileError: the file cannot be written; names `path`.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            with open(target, "wb") as file:
                yield file
        else:
            yield from _write_beside(target)
    except OSError as error:
        if _is_foreign(error, target):
            raise
        reason = error.strerror if error.strerror else str(error)
        raise FileError(f"Could not write file {os.fspath(path)}: {reason}") from error


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Replace a file's content in one step.

    Args:
        path: the target; its folder must exist.
        data: the new content; text is written as UTF-8 without changing line ends.

    Raises:
        FileError: the file cannot be written; names `path`.
    """
    with atomic_writer(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


def temporary_name(target: Path) -> Path:
    """A name beside the target for its unfinished content; `sweep` knows it."""
    mark = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    return target.with_name(f".{target.name[:_MOST_KEPT]}.{mark}.tmp")


def sweep(folder: str | os.PathLike[str], prefix: str = "") -> list[str]:
    """Remove unfinished files and folders whose process is dead.

    Those of other machines, of living processes and of other programs stay.

    Args:
        folder: where to look.
        prefix: how the names of the targets begin.

    Returns:
        The names of what was removed.
    """
    removed = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        match = _TEMPORARY.fullmatch(entry.name)
        if match is None or not match["target"].startswith(prefix[:_MOST_KEPT]):
            continue
        if match["machine"] != _machine() or _is_alive(int(match["process"])):
            continue
        if os.path.lexists(Path(entry.path).with_suffix(".old")):
            continue  # it was just taking the place of what is put aside there
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
            removed.append(entry.name)
    return removed


def _machine() -> str:
    """This machine, or this container, in eight digits."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # there, signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _write_beside(target: Path) -> Iterator[BinaryIO]:
    temporary = temporary_name(target)
    # Not tempfile: its files are private to the user, ours follow the umask like any other file.
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk too; not every file system can be asked to.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_foreign(error: OSError, target: Path) -> bool:
    """Whether the caller's block failed over a file of its own."""
    if error.filename is None:
        return False
    return Path(os.fsdecode(error.filename)).parent != target.parent
