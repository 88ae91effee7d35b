"""One training at a time under one snapshot prefix.

Two would overwrite each other's snapshots, and pair the weights of one with the state of the other.
The lock belongs to the process: it ends with it, however that ends, and its data workers do not
hold it. Where a file system has no locks, a warning says so.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caffe_ssd.errors import FileError, SolverError

logger = logging.getLogger(__name__)

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_held: dict[Path, int] = {}  # by this process; the number of blocks that want it


@contextmanager
def prefix_lock(prefix: str) -> Iterator[None]:
    """Hold the prefix while the block runs; blocks of one process share it.

    Args:
        prefix: `snapshot_prefix`; nothing is held if it is empty.

    Raises:
        SolverError: another process holds it.
        FileError: the folder cannot be written to.
    """
    if not prefix:
        yield
        return
    path = Path(f"{prefix}.lock")
    path = path.parent.resolve() / f".{path.name}"
    if path in _held:
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    descriptor = _take(path, prefix)
    _held[path] = 1
    try:
        yield
    finally:
        del _held[path]
        with suppress(OSError):  # removed while it is held, so that nobody loses one
            path.unlink()
        os.close(descriptor)


def _take(path: Path, prefix: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FileError(
                f"snapshot_prefix {prefix!r} cannot be written to: {error.strerror}; "
                "create the folder first"
            ) from error
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise SolverError(
                    f"another training writes to snapshot_prefix {prefix!r} "
                    f"({holder if holder else 'its process is not known'}); give this one "
                    "another prefix, or wait until that one has ended"
                ) from None
            logger.warning("%s cannot be locked: %s", path, error)
            return os.open(os.devnull, os.O_RDONLY)
        if _is_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # its holder removed the file in between


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _lock(descriptor: int) -> None:
    """Lock the whole file, or raise OSError at once; not inherited by children."""
    # By name: each of the two modules exists on one kind of system only.
    module: Any = importlib.import_module("msvcrt" if sys.platform == "win32" else "fcntl")
    if sys.platform == "win32":
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # behind the text, which others may read
        module.locking(descriptor, module.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        module.lockf(descriptor, module.LOCK_EX | module.LOCK_NB)
