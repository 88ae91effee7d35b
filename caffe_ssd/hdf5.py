"""Reads HDF5 files that may be damaged or hostile: every fault is an error that names the file.

Nothing outside of the file is read: links to other files, values that lie in other files and
filters that would have to be loaded are refused. Links inside the file are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import CaffeError, ProtoError
from caffe_ssd.files import PathLike, check_regular
from caffe_ssd.startup import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")

MAX_VALUES = 2**31 - 1
"""Values of the largest dataset that is read, as of the largest blob."""

_KNOWN_FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # deflate, shuffle, checksum, szip, n-bit, offset, lzf
_MOST_LINKS = 16


@contextmanager
def open_hdf5(path: PathLike) -> Iterator[h5py.File]:
    """Open a file for reading; what h5py raises in the block is reported as damage.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no HDF5 file, or damaged; names the file.
    """
    name = os.fspath(path)
    check_regular(name)
    try:
        with h5py.File(name, "r") as file:
            yield file
    except CaffeError:
        raise
    # h5py reports damage by whatever its C library and its own code run into.
    except (MemoryError, Exception) as error:
        what = str(error) or type(error).__name__
        raise ProtoError(f"{name}: not an HDF5 file, or damaged: {what}") from error


def member(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What stands under a name of a group, in this very file; None if nothing does.

    Raises:
        ProtoError: it is a link to another file, or one that leads nowhere.
    """
    if "/" in name:
        group, name = _resolve(group, name)
    for _ in range(_MOST_LINKS):
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink):
            raise ProtoError(
                f"{group.file.filename}: {group.name}/{name} is a link to another file, "
                f"{link.filename!r}; such links are not followed"
            )
        if isinstance(link, h5py.HardLink):
            return group[name]
        group, name = _resolve(group, link.path)
    raise ProtoError(f"{group.file.filename}: {group.name}/{name} is a link without an end")


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Names of a group and what stands under them; see `member`."""
    for name in group:
        found = member(group, name)
        if found is not None:
            yield name, found


def address(item: h5py.Group) -> int:
    """Where a group lies in its file: equal for two names of the same group."""
    return int(h5py.h5o.get_info(item.id).addr)


def check_numbers(dataset: h5py.Dataset) -> None:
    """Check, before any value is read, that a dataset holds numbers, and holds them here.

    Raises:
        ProtoError: it does not; names the file and the dataset.
    """
    if dataset.dtype.kind not in "fiu":
        raise ProtoError(
            f"{dataset.file.filename}: dataset {dataset.name} holds {dataset.dtype}, not numbers"
        )
    check_stored(dataset)


def check_stored(dataset: h5py.Dataset) -> None:
    """Check, before any value is read, that a dataset has values, and has them in this file.

    Raises:
        ProtoError: it has not; names the file and the dataset.
    """
    where = f"{dataset.file.filename}: dataset {dataset.name}"
    if dataset.shape is None:
        raise ProtoError(f"{where} is empty")
    if dataset.size > MAX_VALUES:
        raise ProtoError(f"{where} has {dataset.size} values; at most {MAX_VALUES} are allowed")
    if dataset.external or dataset.is_virtual:
        raise ProtoError(f"{where} has its values in another file; such ones are not read")
    created = dataset.id.get_create_plist()
    filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    if unknown := [code for code in filters if code not in _KNOWN_FILTERS]:
        raise ProtoError(f"{where} is packed by an unknown filter, number {unknown[0]}")


def read_numbers(dataset: h5py.Dataset) -> NDArray[np.float32]:
    """The values of a dataset.

    Raises:
        ProtoError: it holds no numbers, or they cannot be read; names the file and the dataset.
    """
    check_numbers(dataset)
    try:
        with np.errstate(over="ignore"):
            return np.asarray(dataset[()], np.float32)
    except (MemoryError, Exception) as error:
        what = str(error) or type(error).__name__
        raise ProtoError(
            f"{dataset.file.filename}: dataset {dataset.name} cannot be read: {what}"
        ) from error


def _resolve(group: h5py.Group, path: str) -> tuple[h5py.Group, str]:
    """The group that a soft link's path ends in, and the last name; no step may leave the file."""
    parts = [part for part in path.split("/") if part and part != "."]
    at = group.file["/"] if path.startswith("/") else group
    for part in parts[:-1]:
        found = member(at, part)
        if not isinstance(found, h5py.Group):
            raise ProtoError(f"{group.file.filename}: a link leads nowhere: {path!r}")
        at = found
    return at, parts[-1] if parts else "/"
