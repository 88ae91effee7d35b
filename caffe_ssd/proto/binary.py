"""Binary protobuf files: caffemodel, solverstate, mean files.

Spec: caffe-net.md sections 2 and 11.
"""

from __future__ import annotations

import logging
import os
from typing import TypeVar

from google.protobuf.message import DecodeError, EncodeError, Message

from caffe_ssd.errors import ProtoError
from caffe_ssd.files import MAX_BYTES, atomic_write, check_regular, read_bytes
from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.proto.strings import mend_strings
from caffe_ssd.proto.upgrade import upgrade_net_in_place
from caffe_ssd.proto.weights_only import parse_weights

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
MessageT = TypeVar("MessageT", bound=Message)

_HEAD_BYTES = 4096  # enough to tell text from anything else
_MAGIC = (
    (b"\x89HDF", "an HDF5 file, whose name should end in .h5"),
    (b"PK\x03\x04", "a zip archive or a PyTorch file"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"<", "a web page, as a failed download leaves it"),
)


def read_binary(path: PathLike, message: MessageT) -> MessageT:
    """Replace a message's content by that of a binary file.

    Returns:
        `message`.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it does not hold such a message; says what it seems to be instead.
    """
    data = read_bytes(path)
    try:
        message.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        kind = message.DESCRIPTOR.name
        raise ProtoError(f"{os.fspath(path)}: not a binary {kind}; it is {_guess(data)}") from error
    mend_strings(message)
    return message


def write_binary(path: PathLike, message: Message) -> None:
    """Write a message; the file appears whole or not at all.

    Raises:
        FileError: the file cannot be written.
        ProtoError: the message is larger than protobuf allows.
    """
    try:
        data = message.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ProtoError(f"{os.fspath(path)}: the message cannot be written: {error}") from error
    atomic_write(path, data)


def read_weights(path: PathLike, *, whole: bool = False) -> NetParameter:
    """Read a binary caffemodel and bring it up to date (old V0 and V1 files too).

    Args:
        path: the file.
        whole: refuse a file that only another fork can read as a whole, of which otherwise names
            and blobs are read.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no caffemodel; names the file.
    """
    try:
        net = read_binary(path, NetParameter())
    except ProtoError as error:
        if whole:
            raise
        try:
            net = parse_weights(read_bytes(path))
        except DecodeError:
            raise error from None
        if len(net.layer) == 0 and len(net.layers) == 0:
            raise
        mend_strings(net)
        logger.warning("%s: of another fork; only names and blobs are read", os.fspath(path))
    if len(net.layer) == 0 and len(net.layers) == 0:
        data = read_bytes(path)
        raise ProtoError(f"{os.fspath(path)}: holds no layers; it is {_guess(data)}")
    try:
        upgrade_net_in_place(net)
    except ProtoError as error:
        raise ProtoError(f"{os.fspath(path)}: {error}") from error
    return net


def is_binary(path: PathLike) -> bool:
    """Whether a file is binary rather than text, judged by how it begins.

    Raises:
        FileError: the file cannot be opened.
    """
    check_regular(path)
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    return len(head) > 0 and not _looks_like_text(head)


def _guess(data: bytes) -> str:
    """What a file that should be protobuf probably is, for the end of an error message."""
    if not data:
        return "empty"
    for magic, description in _MAGIC:
        if data.startswith(magic):
            return description
    if _looks_like_text(data[:_HEAD_BYTES]):
        return "text, perhaps a prototxt"
    missing = _missing_bytes(data)
    if missing > 0:
        return f"cut off: at least {missing} of {len(data) + missing} bytes are missing"
    return "damaged, or another kind of file"


def _looks_like_text(head: bytes) -> bool:
    is_control = any(byte < 0x20 and byte not in b"\t\r\n" for byte in head)
    return not is_control and sum(byte < 0x80 for byte in head) > len(head) / 2


def _missing_bytes(data: bytes) -> int:
    """How far the last top-level field reaches past the end; 0 if the fields make no sense."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire_type = tag & 7
        if tag >> 3 == 0 or wire_type in (3, 4, 6, 7):
            return 0
        if wire_type == 0:
            _, at = _varint(data, at)
        elif wire_type == 2:
            length, at = _varint(data, at)
            at += length
        else:
            at += 8 if wire_type == 1 else 4
        if at - len(data) > MAX_BYTES:
            return 0
    return at - len(data)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the position after it, which is past the end where it is cut off."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 63:
            return value, at
    return value, at + 1
