"""Writes files so that a crash leaves either the old content or the new one, never half of it.

The new content goes to a temporary name in the same folder, reaches the disk, and then takes the
target's name in one step. Something that is no regular file (a pipe, `/dev/stdout`) is written to
directly: it has no name to take over.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from caffe_ssd.errors import FileError


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


def _write_beside(target: Path) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
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
