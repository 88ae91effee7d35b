"""Record sources: serialized records of a database, by number, in key order.

Spec: ssd-data.md section 1, ssd-layers.md section 8.
Quirk: `data_param.backend` defaults to LEVELDB, so a prototxt for LMDB must name its backend.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from caffe_ssd.data.lmdb_file import Entry, LmdbFile
from caffe_ssd.errors import CaffeError, DataError
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


class LmdbSource:
    """The records of an LMDB, opened at the first read; nothing is locked or written.

    It may be pickled, and read from several threads and from forked processes.

    Args:
        path: the database directory, or a single file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._file: LmdbFile | None = None
        self._entries: list[Entry] | None = None

    def __len__(self) -> int:
        return self._open().num_entries

    def first(self) -> bytes:
        """Record 0.

        Raises:
            DataError: there is no such database, or it is empty or broken.
        """
        file = self._open()
        entry = file.first()
        if entry is None:
            raise DataError(f"data source {self.path!r} has no records")
        return file.value(entry)

    def __getitem__(self, index: int) -> bytes:
        """The record of this number.

        Raises:
            DataError: there is no such database, or it is broken.
            IndexError: there is no such record.
        """
        return self._open().value(self._list()[index])

    def keys(self) -> list[bytes]:
        """All keys in order.

        Raises:
            DataError: there is no such database, or it is broken.
        """
        return [entry.key for entry in self._list()]

    def where(self, index: int) -> str:
        """The database and the key, for error messages."""
        return f"{self.path}: record {self._list()[index].key.decode(errors='replace')!r}"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": None, "_entries": None}

    def _list(self) -> list[Entry]:
        """All records; collected once."""
        if self._entries is None:
            self._entries = self._open().entries()
        return self._entries

    def _open(self) -> LmdbFile:
        if self._file is None:
            _check_lmdb(self.path)
            data = os.path.join(self.path, "data.mdb") if os.path.isdir(self.path) else self.path
            if not os.path.isfile(data):
                raise DataError(f"data source {self.path!r} is not an LMDB: {data} is no file")
            try:
                self._file = LmdbFile(data)
            except CaffeError as error:
                raise DataError(
                    f"data source {self.path!r} cannot be opened as an LMDB: {error}"
                ) from error
        return self._file


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
