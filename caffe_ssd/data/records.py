"""Record sources: serialized records of a database, by number, in key order.

Spec: ssd-data.md section 1, ssd-layers.md section 8.
Quirk: `data_param.backend` defaults to LEVELDB, so a prototxt for LMDB must name its backend.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

import lmdb

from caffe_ssd.errors import DataError
from caffe_ssd.proto.caffe_pb2 import DataParameter


class RecordSource(Protocol):
    """Numbered records; record 0 has the smallest key."""

    def __len__(self) -> int: ...

    def first(self) -> bytes:
        """Record 0, without looking at any other."""

    def __getitem__(self, index: int) -> bytes:
        """The serialized record of this number."""

    def where(self, index: int) -> str:
        """How an error message names this record."""


class _Environment:
    """An open LMDB; the library forbids a process to open one twice, so sources share it."""

    def __init__(self, path: str) -> None:
        self.handle = lmdb.open(path, readonly=True, lock=False, subdir=os.path.isdir(path))


_OPEN: WeakValueDictionary[tuple[str, int], _Environment] = WeakValueDictionary()
_OPENING = threading.Lock()
_CLOSING_SECONDS = 5.0


def _shared_environment(key: tuple[str, int], path: str) -> _Environment:
    """The environment of a path, opened if nobody has it open."""
    deadline = time.monotonic() + _CLOSING_SECONDS
    while True:
        with _OPENING:
            environment = _OPEN.get(key)
            if environment is not None:
                return environment
            try:
                environment = _OPEN[key] = _Environment(path)
                return environment
            except lmdb.Error as error:
                # Another thread is just closing it: it has left the table, but not yet the library.
                if "already open" not in str(error) or time.monotonic() > deadline:
                    raise
        time.sleep(0.01)


class LmdbSource:
    """The records of an LMDB, opened read-only and without a lock file at the first read.

    It may be pickled, and read from several threads and from forked processes.

    Args:
        path: the database directory, or a single file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._environment: _Environment | None = None
        self._keys: list[bytes] | None = None

    def __len__(self) -> int:
        return int(self._open().stat()["entries"])

    def first(self) -> bytes:
        """Record 0.

        Raises:
            DataError: there is no such database, or it is empty or broken.
        """
        try:
            with self._open().begin() as transaction, transaction.cursor() as cursor:
                if cursor.first():
                    return bytes(cursor.value())
        except lmdb.Error as error:
            raise DataError(f"data source {self.path!r} cannot be read: {error}") from None
        raise DataError(f"data source {self.path!r} has no records")

    def __getitem__(self, index: int) -> bytes:
        """The record of this number.

        Raises:
            DataError: there is no such database, or it is broken.
            IndexError: there is no such record.
        """
        key = self.keys()[index]
        try:
            with self._open().begin() as transaction:
                value = transaction.get(key)
        except lmdb.Error as error:
            raise DataError(f"{self.where(index)} cannot be read: {error}") from None
        if value is None:
            raise DataError(f"{self.where(index)} has vanished since the database was opened")
        return bytes(value)

    def keys(self) -> list[bytes]:
        """All keys in order; collected once."""
        if self._keys is None:
            try:
                with self._open().begin() as transaction, transaction.cursor() as cursor:
                    self._keys = list(cursor.iternext(keys=True, values=False))
            except lmdb.Error as error:
                raise DataError(f"data source {self.path!r} cannot be read: {error}") from None
        return self._keys

    def where(self, index: int) -> str:
        """The database and the key, for error messages."""
        return f"{self.path}: record {self.keys()[index].decode(errors='replace')!r}"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_environment": None}

    def _open(self) -> lmdb.Environment:
        if self._environment is None:
            _check_lmdb(self.path)
            data = os.path.join(self.path, "data.mdb") if os.path.isdir(self.path) else self.path
            # The inode tells a database from a newer one that replaced it under the same name.
            key = (os.path.realpath(self.path), os.stat(data).st_ino)
            try:
                self._environment = _shared_environment(key, self.path)
            except lmdb.Error as error:
                raise DataError(
                    f"data source {self.path!r} cannot be opened as an LMDB: {error}"
                ) from None
        return self._environment.handle


def open_source(param: DataParameter) -> LmdbSource:
    """The source that a `data_param` names, checked to exist and to hold a record.

    Raises:
        DataError: `source` is missing, is no LMDB, or is empty; or the backend is LEVELDB.
    """
    if not param.source:
        raise DataError("data_param.source is not set; it names an LMDB made by convert_annoset")
    if param.backend != DataParameter.LMDB:
        _refuse_leveldb(param)
    source = LmdbSource(param.source)
    if len(source) == 0:
        raise DataError(
            f"data source {param.source!r} has no records; did convert_annoset find any image?"
        )
    return source


def _check_lmdb(path: str) -> None:
    if not os.path.exists(path):
        relative = "" if os.path.isabs(path) else f" (from {os.getcwd()})"
        raise DataError(
            f"data source {path!r} does not exist{relative}; convert_annoset makes it: "
            "convert_annoset --anno_type=detection --label_map_file=MAP ROOTFOLDER/ LISTFILE "
            f"{path}"
        )
    if _is_leveldb(path):
        raise DataError(f"data source {path!r} is a LevelDB, which is not supported; {_AGAIN}")
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, "data.mdb")):
        raise DataError(f"data source {path!r} is not an LMDB: it has no file data.mdb")


_AGAIN = "make it again as an LMDB with: convert_annoset --backend=lmdb ..."


def _is_leveldb(path: str) -> bool:
    return os.path.isdir(path) and any(Path(path).glob("MANIFEST-*"))


def _refuse_leveldb(param: DataParameter) -> None:
    if os.path.exists(os.path.join(param.source, "data.mdb")):
        raise DataError(
            f"data source {param.source!r} is an LMDB but data_param.backend is LEVELDB"
            f"{'' if param.HasField('backend') else ' (its default)'}; write backend: LMDB"
        )
    raise DataError(
        f"data source {param.source!r}: data_param.backend LEVELDB"
        f"{'' if param.HasField('backend') else ' (its default)'} is not supported; "
        f"{_AGAIN} and write backend: LMDB"
    )
