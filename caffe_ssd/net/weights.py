"""Weights in and out of a net: binary caffemodels here, HDF5 in `weights_hdf5`.

Spec: caffe-net.md sections 11 and 12.

A file's layer goes to the net's layer of the same name; types, bottoms and tops are ignored. Every
fault is found before anything is copied, so a failed load leaves the net as it was.

What other forks' files do differently is in `foreign_blobs`.

Quirk: a binary file's layer goes to the first net layer of its name (an HDF5 file's to the last).
Quirk: a legacy bias saved as 1x1x1xN fits a blob (N), one saved as Nx1x1x1 does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from caffe_ssd.errors import ProtoError, WeightsError
from caffe_ssd.layers.blob import diff_of
from caffe_ssd.net.blob_copy import (
    OTHER_NET_ADVICE,
    RENAME_ADVICE,
    BlobCopy,
    CopyReport,
    HasBlobs,
    PathLike,
    Refuse,
    apply_copies,
    note_ignored,
    nothing_refused,
    settle_faults,
    shape_text,
    shapes_text,
    to_numpy,
)
from caffe_ssd.net.foreign_blobs import arranged, count_hint, fits
from caffe_ssd.net.weights_hdf5 import load_hdf5, save_hdf5
from caffe_ssd.proto.binary import read_weights, write_binary
from caffe_ssd.proto.blobs import blob_shape, blob_to_array, check_length, fill_blob, has_diff
from caffe_ssd.proto.caffe_pb2 import BlobProto, LayerParameter, NetParameter

__all__ = [
    "OTHER_NET_ADVICE",
    "RENAME_ADVICE",
    "CopyReport",
    "HasBlobs",
    "copy_trained",
    "copy_trained_file",
    "fill_blobs",
    "load_hdf5",
    "save_binary",
    "save_hdf5",
]


class HasMessage(Protocol):
    """A net that can say what its caffemodel holds."""

    def to_proto(self, with_diff: bool = False) -> NetParameter:
        """The net's message, blobs included."""


def copy_trained(
    net: HasBlobs,
    message: NetParameter,
    source: str,
    advice: str = "",
    *,
    skip_misfits: bool = False,
    refuse: Refuse = nothing_refused,
) -> CopyReport:
    """Copy the blobs of a net message into the net's layers of the same names.

    Diffs in the message go to `grad`. Values take the device and type of their parameter.

    Args:
        net: receives the weights.
        message: an upgraded net message.
        source: where it comes from, for errors.
        advice: what the user may do about weights that do not fit.
        skip_misfits: leave layers whose weights do not fit as they are, with a warning each.
        refuse: looks at what would be done, and raises to leave the net as it is.

    Raises:
        WeightsError: a layer has another number of blobs or other shapes than the message says;
            the net is unchanged.
    """
    layers: dict[str, Sequence[nn.Parameter]] = {}
    for name, blobs in net.layer_blobs():
        layers.setdefault(name, blobs)
    copies: list[BlobCopy] = []
    ignored: dict[str, bool] = {}
    faults: list[str] = []
    for layer in message.layer:
        if layer.name not in layers:
            note_ignored(layer.name, ignored, has_blobs=len(layer.blobs) > 0)
            continue
        try:
            copies += _match_blobs(layer, layers[layer.name])
        except WeightsError as error:
            faults.append(str(error))
    settle_faults(faults, source, advice, skip_misfits=skip_misfits)
    return apply_copies(net, copies, ignored, source, refuse)


def copy_trained_file(
    net: HasBlobs,
    path: PathLike,
    advice: str = "",
    *,
    skip_misfits: bool = False,
    refuse: Refuse = nothing_refused,
) -> CopyReport:
    """Load a weights file: HDF5 if its name ends in `.h5`, else a binary caffemodel.

    Args:
        net: receives the weights.
        path: the file.
        advice: what the user may do about weights that do not fit.
        skip_misfits: see `copy_trained`.
        refuse: likewise.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no such file.
        WeightsError: the weights do not fit; the net is unchanged.
    """
    if os.fspath(path).endswith(".h5"):
        return load_hdf5(net, path, advice, skip_misfits=skip_misfits, refuse=refuse)
    message, source = read_weights(path), os.fspath(path)
    return copy_trained(net, message, source, advice, skip_misfits=skip_misfits, refuse=refuse)


def save_binary(net: HasMessage, path: PathLike, diff: bool = False) -> None:
    """Write a binary caffemodel.

    Args:
        net: the net.
        path: the file, which appears whole or not at all.
        diff: also write the gradients.

    Raises:
        FileError: the file cannot be written.
        ProtoError: the net is larger than a protobuf file can be.
    """
    write_binary(path, net.to_proto(with_diff=diff))


def fill_blobs(layer: LayerParameter, blobs: Iterable[Tensor], diff: bool = False) -> None:
    """Replace the `blobs` of a layer's message by these values.

    Args:
        layer: the message, which is changed.
        blobs: parameters in the layer's order.
        diff: write gradients too; one that is missing counts as zeros.
    """
    layer.ClearField("blobs")
    for blob in blobs:
        gradient = to_numpy(diff_of(blob)) if diff else None
        fill_blob(layer.blobs.add(), to_numpy(blob), gradient)


def _match_blobs(layer: LayerParameter, targets: Sequence[nn.Parameter]) -> list[BlobCopy]:
    wanted = [tuple(target.shape) for target in targets]
    if len(layer.blobs) != len(targets):
        raise WeightsError(
            f"Incompatible number of blobs for layer {layer.name}: "
            f"the source has {shapes_text(map(blob_shape, layer.blobs))}, "
            f"the net wants {shapes_text(wanted)}.{count_hint(layer, len(targets))}"
        )
    copies = []
    for index, (blob, target) in enumerate(zip(arranged(layer, wanted), targets, strict=True)):
        if not fits(blob, wanted[index]):
            raise WeightsError(
                f"Cannot copy param {index} weights from layer '{layer.name}'; shape mismatch. "
                f"The source has {shape_text(blob_shape(blob))}, the net "
                f"wants {shape_text(target.shape)}."
            )
        try:
            check_length(blob)
        except ProtoError as error:
            raise WeightsError(
                f"Cannot copy param {index} of layer '{layer.name}': {error}"
            ) from error
        copies.append(_copy_of(layer.name, blob, target))
    return copies


def _copy_of(layer: str, blob: BlobProto, target: nn.Parameter) -> BlobCopy:
    diff = partial(blob_to_array, blob, diff=True) if has_diff(blob) else None
    return BlobCopy(layer, target, partial(blob_to_array, blob), diff)
