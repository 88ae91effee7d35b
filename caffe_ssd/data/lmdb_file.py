"""Reads the file of an LMDB page by page, without mapping it into memory.

The library maps the file: a copy that was cut off then kills the process with a signal, a damaged
page may do so too, nobody else in the process may have the database open, and reading one that was
opened before a fork leaks memory. The format is small and fixed, and a record source only ever
reads, so it is read here as any other file; every page is checked before it is followed.

Source: LMDB's file format, version 1: pages in the byte order of the machine that wrote them; pages
0 and 1 describe the database, the one of the later transaction counts. A B+ tree holds the records;
a value that does not fit a page of the tree lies in consecutive pages of its own.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from caffe_ssd.errors import DataError, FileError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_PAGE_HEAD = struct.Struct("<Q2H2H")  # number, unused, flags, end of pointers, begin of nodes
_META = struct.Struct("<2I2Q")  # magic, version, address, map size
_TREE = struct.Struct("<I2H5Q")  # page size, flags, depth, three page counts, entries, root
_END = struct.Struct("<2Q")  # last page, transaction
_NODE = struct.Struct("<4H")  # low and high half of a size or page, flags, length of the key
_NUMBER = struct.Struct("<Q")
_BRANCH, _LEAF, _VALUE, _KIND = 0x01, 0x02, 0x04, 0x2F
_LARGE, _MORE_THAN_A_VALUE = 0x01, 0x06
_NOWHERE = 2**64 - 1
_DEEPEST = 32
_HEAD_BYTES = 1 << 17  # both descriptions, with the largest pages


class Entry(NamedTuple):
    """A record: its key, and where in the file its value lies.

    `own_page` is the first of the value's own pages, or -1 where it stands in a page of the tree.
    """

    key: bytes
    offset: int
    size: int
    own_page: int = -1


class LmdbFile:
    """An LMDB, open for reading; may be read by several threads and by forked processes.

    Args:
        path: the file, `data.mdb` as a rule.

    Raises:
        FileError: it cannot be opened.
        DataError: it is no LMDB, or damaged; says how much is missing where it is cut off.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except (OSError, ValueError) as error:
            raise FileError(f"Could not open file {path}: {error}") from error
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size
        self._page_size, self._root, self.num_entries, self._last_page = self._describe()
        if self._size < (self._last_page + 1) * self._page_size:
            self.entries()  # no fault where nothing lies in the pages that are missing

    def first(self) -> Entry | None:
        """The record with the smallest key, without looking at any other."""
        return next(self._walk(), None)

    def entries(self) -> list[Entry]:
        """All records by their keys.

        Raises:
            DataError: the tree is damaged, or reaches behind the end of the file.
        """
        found = list(self._walk())
        if len(found) != self.num_entries:
            raise self._damaged(f"has {len(found)} records, but should have {self.num_entries}")
        return found

    def value(self, entry: Entry) -> bytes:
        """The value of a record.

        Raises:
            DataError: its pages are damaged, or the file has become shorter since it was opened.
        """
        if entry.own_page < 0:
            return self._read(entry.offset, entry.size)
        pages = self._read(entry.offset - _PAGE_HEAD.size, entry.size + _PAGE_HEAD.size)
        number, _, flags, _, _ = _PAGE_HEAD.unpack_from(pages)
        if number != entry.own_page or flags & _KIND != _VALUE:
            raise self._damaged(f"page {entry.own_page} holds no value")
        return pages[_PAGE_HEAD.size :]

    def _describe(self) -> tuple[int, int, int, int]:
        """Page size, root, number of entries and last page, by the later of two descriptions."""
        head = os.pread(self._file, _HEAD_BYTES, 0)
        page_size = self._meta(head, 0)[0] if len(head) >= 4096 else 0
        if page_size < 256 or page_size > 65536 or page_size & (page_size - 1):
            raise DataError(f"{self.path}: not an LMDB, or damaged at its beginning")
        both = [self._meta(head, at) for at in (0, page_size) if at + 4096 <= len(head)]
        _, root, entries, last_page, _ = max(both, key=lambda meta: meta[-1])
        return page_size, root, entries, last_page

    def _meta(self, head: bytes, at: int) -> tuple[int, int, int, int, int]:
        at += _PAGE_HEAD.size
        magic, version, _, _ = _META.unpack_from(head, at)
        if (magic, version) != (_MAGIC, _VERSION):
            raise DataError(f"{self.path}: not an LMDB, or damaged at its beginning")
        page_size = _TREE.unpack_from(head, at + _META.size)[0]
        tree = _TREE.unpack_from(head, at + _META.size + _TREE.size)
        last_page, transaction = _END.unpack_from(head, at + _META.size + 2 * _TREE.size)
        return page_size, tree[-1], tree[-2], last_page, transaction

    def _walk(self) -> Iterator[Entry]:
        """Every record, depth first; each page is visited once."""
        if self._root == _NOWHERE:
            return
        seen: set[int] = set()
        path: list[Iterator[int]] = [iter([self._root])]
        while path:
            number = next(path[-1], None)
            if number is None:
                path.pop()
                continue
            if number in seen or len(path) > _DEEPEST:
                raise self._damaged(f"page {number} stands twice in its tree")
            seen.add(number)
            page = self._read(number * self._page_size, self._page_size)
            kind, nodes = self._nodes(page, number)
            if kind == _BRANCH:
                path.append(iter([self._child(page, at) for at in nodes]))
            elif kind == _LEAF:
                yield from (self._entry(page, at, number) for at in nodes)
            else:
                raise self._damaged(f"page {number} is neither a branch nor a leaf of its tree")

    def _nodes(self, page: bytes, number: int) -> tuple[int, list[int]]:
        """Kind of a page, and where its nodes begin."""
        own_number, _, flags, pointers_end, nodes_begin = _PAGE_HEAD.unpack_from(page)
        count = (pointers_end - _PAGE_HEAD.size) // 2
        if own_number != number or not 0 < count <= self._page_size // 2:
            raise self._damaged(f"page {number} is damaged")
        nodes = np.frombuffer(page, "<u2", count, _PAGE_HEAD.size)
        if not pointers_end <= nodes_begin <= nodes.min() <= nodes.max() <= len(page) - _NODE.size:
            raise self._damaged(f"page {number} is damaged")
        return flags & _KIND, nodes.tolist()

    def _child(self, page: bytes, at: int) -> int:
        low, high, highest, _ = _NODE.unpack_from(page, at)
        return int(low | high << 16 | highest << 32)

    def _entry(self, page: bytes, at: int, number: int) -> Entry:
        low, high, flags, key_size = _NODE.unpack_from(page, at)
        begin = at + _NODE.size + key_size
        size = low | high << 16
        in_page = _NUMBER.size if flags & _LARGE else size
        if flags & _MORE_THAN_A_VALUE:
            raise DataError(f"{self.path}: holds databases of its own; a plain one is needed")
        if begin + in_page > len(page):
            raise self._damaged(f"page {number} is damaged")
        key = page[at + _NODE.size : begin]
        if not flags & _LARGE:
            return Entry(key, number * self._page_size + begin, size)
        own_page = int(_NUMBER.unpack_from(page, begin)[0])
        offset = own_page * self._page_size + _PAGE_HEAD.size
        if offset + size > self._size:
            raise self._cut_off()
        return Entry(key, offset, size, own_page)

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._size:
            raise self._cut_off()
        try:
            data = os.pread(self._file, size, offset)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error}") from error
        if len(data) != size:
            self._size = os.fstat(self._file).st_size
            raise self._cut_off()
        return data

    def _cut_off(self) -> DataError:
        needed = (self._last_page + 1) * self._page_size
        if self._size >= needed:
            return self._damaged("a page points behind its end")
        return DataError(
            f"{self.path}: is cut off: it has {self._size} of {needed} bytes; copy it again"
        )

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.path}: a damaged LMDB: {what}; copy it again or make it anew")
