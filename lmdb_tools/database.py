"""Writes an LMDB that appears under its name only when it is complete.

Records go to a temporary folder beside the target, which is flushed to the disk and renamed at the
end: a crash or Ctrl-C never leaves a half database where a training script would find it.

Spec: ssd-data.md section 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lmdb

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.files import sweep, temporary_name

_COMMIT_EVERY = 1000
_FIRST_MAP_SIZE = 1 << 20


class DatabaseWriter:
    """Collects records and commits them a thousand at a time.

    Args:
        folder: an existing, empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = lmdb.open(str(folder), map_size=_FIRST_MAP_SIZE, mode=0o664)
        self._map_size = _FIRST_MAP_SIZE
        self._pending: list[tuple[bytes, bytes]] = []

    def put(self, key: str, value: bytes) -> None:
        """Add one record; keys that grow are fastest."""
        self._pending.append((os.fsencode(key), value))
        if len(self._pending) >= _COMMIT_EVERY:
            self._commit()

    def close(self) -> None:
        """Write what is pending to the disk and close."""
        self._commit()
        self._environment.sync(True)
        self._environment.close()

    def abandon(self) -> None:
        """Close without writing what is pending."""
        self._environment.close()

    def _commit(self) -> None:
        while self._pending:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value)
            except lmdb.MapFullError:
                self._map_size *= 2
                self._environment.set_mapsize(self._map_size)
            except lmdb.BadValsizeError as error:
                limit = self._environment.max_key_size()
                longest = max((key for key, _ in self._pending), key=len)
                message = f"the key {os.fsdecode(longest)!r} is too long; LMDB allows {limit} bytes"
                raise DataError(message) from error
            else:
                self._pending.clear()


@contextmanager
def new_database(
    path: str | os.PathLike[str], *, replace: bool = False
) -> Iterator[DatabaseWriter]:
    """Create an LMDB folder; it takes its name when the block ends well.

    Args:
        path: the target; its parent folder must exist.
        replace: an LMDB that has the name already is put aside at the end and then removed;
            otherwise it must not exist.

    Raises:
        FileError: the target exists (with `replace`: and is no LMDB), or cannot be created.
    """
    target = Path(os.path.abspath(path))
    check_target(target, replace=replace)
    sweep(target.parent, target.name)
    temporary = temporary_name(target)
    writer: DatabaseWriter | None = None
    try:
        temporary.mkdir(0o755)
        writer = DatabaseWriter(temporary)
        yield writer
        writer.close()
        check_target(target, replace=replace)
        _move(temporary, target)
    except BaseException as error:
        if writer is not None:
            writer.abandon()
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | lmdb.Error):
            raise FileError(f"could not write the database {path}: {error}") from error
        raise


def check_target(path: str | os.PathLike[str], *, replace: bool = False) -> None:
    """Check that a database can be made at `path`; see `new_database`.

    Raises:
        FileError: it cannot.
    """
    if os.path.lexists(path):
        if not replace:
            raise FileError(f"the database {path} already exists; remove it or choose another name")
        if not os.path.isfile(os.path.join(path, "data.mdb")):
            raise FileError(f"{path} exists and is no LMDB (it has no data.mdb), so it stays")
    parent = Path(os.path.abspath(path)).parent
    if not parent.is_dir():
        raise FileError(f"the folder {parent}, where the database should go, does not exist")


def _move(temporary: Path, target: Path) -> None:
    old = temporary.with_suffix(".old")
    if target.exists():
        target.rename(old)
    temporary.rename(target)
    _sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself must reach the disk too; not every file system can be asked to.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
