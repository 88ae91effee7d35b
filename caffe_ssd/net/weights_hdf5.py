"""Weights in HDF5 files: datasets `/data/<layer>/<index>`.

Spec: caffe-net.md sections 11 and 12.

Quirk: a file's layer goes to the last net layer of its name (a binary file's to the first).
Quirk: shapes are not compared, only the number of values; the net's shape stays (the reference
    takes over the file's shape, which the layers then do not look at).
Quirk: shared blobs are written by their owner only, diffs by every sharer.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from caffe_ssd.errors import ProtoError, WeightsError
from caffe_ssd.files import atomic_writer
from caffe_ssd.hdf5 import address, check_numbers, member, members, open_hdf5, read_numbers
from caffe_ssd.layers.blob import diff_of
from caffe_ssd.net.blob_copy import (
    BlobCopy,
    CopyReport,
    HasBlobs,
    PathLike,
    Refuse,
    apply_copies,
    identity,
    note_ignored,
    nothing_refused,
    settle_faults,
    shape_text,
    shapes_text,
    to_numpy,
)
from caffe_ssd.startup import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")


def load_hdf5(
    net: HasBlobs,
    path: PathLike,
    advice: str = "",
    *,
    skip_misfits: bool = False,
    refuse: Refuse = nothing_refused,
) -> CopyReport:
    """Load the datasets `/data/<layer>/<index>` of an HDF5 file.

    Args:
        net: receives the weights.
        path: the file.
        advice: what the user may do about weights that do not fit.
        skip_misfits: leave layers whose weights do not fit as they are, with a warning each.
        refuse: looks at what would be done, and raises to leave the net as it is.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no HDF5 file, or damaged; names the file and, where it can, the data set.
        WeightsError: the weights do not fit; the net is unchanged.
    """
    source = os.fspath(path)
    with open_hdf5(path) as file:
        data = member(file, "data")
        if not isinstance(data, h5py.Group):
            raise WeightsError(f"{source}: has no group /data, so it holds no weights")
        copies, ignored = _matches(net, data, source, advice, skip_misfits=skip_misfits)
    return apply_copies(net, copies, ignored, source, refuse)


def save_hdf5(net: HasBlobs, path: PathLike, diff: bool = False) -> None:
    """Write `/data/<layer>/<index>`; a shared blob is written by its owner only.

    Args:
        net: the net.
        path: the file, which appears whole or not at all.
        diff: also write `/diff/<layer>/<index>`, for every blob.

    Raises:
        FileError: the file cannot be written.
        WeightsError: two layers have the same name, for which the layout has no room.
    """
    layers = net.layer_blobs()
    twice = [name for name, count in Counter(name for name, _ in layers).items() if count > 1]
    if twice:
        raise WeightsError(
            f"HDF5 weights need layer names of their own; two layers are named {twice[0]!r}"
        )
    written: set[object] = set()
    with atomic_writer(path) as target, h5py.File(target, "w") as file:
        file.create_group("data")
        for name, blobs in layers:
            group = file["data"].require_group(name)
            for index, blob in enumerate(blobs):
                if identity(blob) not in written:
                    group[str(index)] = to_numpy(blob)
                    written.add(identity(blob))
            if diff:
                group = file.require_group("diff").require_group(name)
                for index, blob in enumerate(blobs):
                    group[str(index)] = to_numpy(diff_of(blob))


def _matches(
    net: HasBlobs, data: h5py.Group, source: str, advice: str, *, skip_misfits: bool
) -> tuple[list[BlobCopy], dict[str, bool]]:
    """The blobs of the file that the net wants, and the layers that it does not have."""
    layers: dict[str, Sequence[nn.Parameter]] = {}
    shared: dict[str, list[bool]] = {}
    seen: set[object] = set()
    for name, blobs in net.layer_blobs():
        layers[name], shared[name] = blobs, []
        for blob in blobs:
            shared[name].append(identity(blob) in seen)
            seen.add(identity(blob))
    copies: list[BlobCopy] = []
    ignored: dict[str, bool] = {}
    faults: list[str] = []
    for name, group in _layer_groups(data, layers):
        if name not in layers:
            note_ignored(name, ignored, has_blobs=len(group) > 0)
            continue
        try:
            copies += _match_datasets(name, group, layers[name], shared[name])
        except WeightsError as error:
            faults.append(str(error))
    settle_faults(faults, source, advice, skip_misfits=skip_misfits)
    return copies, ignored


def _layer_groups(
    group: h5py.Group,
    known: Collection[str],
    prefix: str = "",
    around: frozenset[int] = frozenset(),
) -> Iterator[tuple[str, h5py.Group]]:
    """The layers' groups; a layer's name that has slashes makes nested ones."""
    around |= {address(group)}
    for key, child in members(group):
        if not isinstance(child, h5py.Group):
            continue
        if address(child) in around:
            raise ProtoError(f"{group.file.filename}: group {group.name}/{key} contains itself")
        name = prefix + key
        nested = any(isinstance(entry, h5py.Group) for _, entry in members(child))
        if name in known or not nested:
            yield name, child
        if nested:
            yield from _layer_groups(child, known, f"{name}/", around)


def _match_datasets(
    name: str, group: h5py.Group, targets: Sequence[nn.Parameter], shared: Sequence[bool]
) -> list[BlobCopy]:
    datasets = {key: entry for key, entry in members(group) if isinstance(entry, h5py.Dataset)}
    missing = [str(i) for i in range(len(targets)) if str(i) not in datasets and not shared[i]]
    if len(datasets) > len(targets) or missing:
        raise WeightsError(
            f"Incompatible number of blobs for layer {name}: the source has "
            f"{', '.join(datasets) if datasets else 'none'}, the net wants "
            f"{shapes_text(blob.shape for blob in targets)}."
        )
    copies = []
    for index, target in enumerate(targets):
        dataset = datasets.get(str(index))
        if dataset is None:
            continue
        if dataset.dtype.kind not in "fiu":
            raise WeightsError(
                f"Cannot copy param {index} of layer '{name}': the dataset holds {dataset.dtype}, "
                "not numbers."
            )
        check_numbers(dataset)
        if dataset.size != target.numel():
            raise WeightsError(
                f"Cannot copy param {index} weights from layer '{name}'; shape mismatch. The "
                f"source has {shape_text(dataset.shape)}, the net wants {shape_text(target.shape)}."
            )
        # Read now: a damaged file must be found out before the net changes.
        copies.append(BlobCopy(name, target, partial(np.asarray, read_numbers(dataset))))
    return copies
