"""BlobProto <-> numpy arrays.

Spec: caffe-net.md sections 1 and 11; other-forks.md section 16 (values as bytes, perhaps in half
precision, as NVCaffe and OpenCV write them; they are read only).
Quirk: a blob with any of num, channels, height, width set has those four axes, whatever its
    `shape` says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from caffe_ssd.errors import ProtoError
from caffe_ssd.proto.caffe_pb2 import BlobProto

FloatArray: TypeAlias = npt.NDArray[np.float32]

MAX_VALUES = 2**31 - 1
"""Values of the largest blob: the reference counts them in 32 bits."""
LEGACY_AXES = ("num", "channels", "height", "width")

_RAW_TYPES = {BlobProto.DOUBLE: "<f8", BlobProto.FLOAT: "<f4", BlobProto.FLOAT16: "<f2"}


def is_legacy(blob: BlobProto) -> bool:
    """Whether the blob's shape is the old four numbers."""
    return any(blob.HasField(axis) for axis in LEGACY_AXES)


def blob_shape(blob: BlobProto) -> tuple[int, ...]:
    """The shape that the message states; a legacy blob has four axes."""
    if is_legacy(blob):
        return (blob.num, blob.channels, blob.height, blob.width)
    return tuple(blob.shape.dim)


def has_diff(blob: BlobProto) -> bool:
    """Whether the message carries a diff."""
    return len(blob.diff) > 0 or len(blob.double_diff) > 0


def check_length(blob: BlobProto) -> None:
    """Hold the number of values against the shape, for the data and, if present, the diff.

    Raises:
        ProtoError: they disagree.
    """
    _check_count(blob, diff=False)
    if has_diff(blob):
        _check_count(blob, diff=True)


def blob_to_array(blob: BlobProto, diff: bool = False) -> FloatArray:
    """The values of a blob: its doubles, else its floats, else its bytes.

    Args:
        blob: the message.
        diff: take the diff rather than the data.

    Returns:
        A new array shaped like the blob.

    Raises:
        ProtoError: the number of values is not that of the shape, or bytes are of no known type.
    """
    _check_count(blob, diff=diff)
    return np.array(_values(blob, diff=diff), dtype=np.float32).reshape(blob_shape(blob))


def array_to_blob(array: npt.ArrayLike, diff: npt.ArrayLike | None = None) -> BlobProto:
    """A message with `shape` and `data`, and `diff` where one is given; see `fill_blob`.

    Raises:
        ProtoError: `diff` has another number of values than `array`.
    """
    blob = BlobProto()
    fill_blob(blob, array, diff)
    return blob


def fill_blob(blob: BlobProto, array: npt.ArrayLike, diff: npt.ArrayLike | None = None) -> None:
    """Put values into an empty message.

    Args:
        blob: the message, which is changed.
        array: any shape; converted to float32.
        diff: as many values as `array`.

    Raises:
        ProtoError: `diff` has another number of values than `array`.
    """
    data = np.asarray(array, dtype="<f4")
    blob.shape.dim.extend(data.shape)
    _add_packed(blob, BlobProto.DATA_FIELD_NUMBER, data)
    if diff is not None:
        gradient = np.asarray(diff, dtype="<f4")
        if gradient.size != data.size:
            raise ProtoError(f"a diff of {gradient.size} values for {data.size} values of data")
        _add_packed(blob, BlobProto.DIFF_FIELD_NUMBER, gradient)


def _values(blob: BlobProto, *, diff: bool) -> Sequence[float] | npt.NDArray[np.floating[Any]]:
    single, double = (blob.diff, blob.double_diff) if diff else (blob.data, blob.double_data)
    if len(single) == len(double) == 0 and not diff and blob.HasField("raw_data"):
        return _raw_values(blob)
    return double if len(double) > 0 else single


def _raw_values(blob: BlobProto) -> npt.NDArray[np.floating[Any]]:
    if not blob.HasField("raw_data_type"):
        raise ProtoError("a blob with raw_data lacks raw_data_type, which says what the bytes are")
    kind = _RAW_TYPES.get(blob.raw_data_type)
    if kind is None:
        known = ", ".join(BlobProto.Type.Name(each) for each in _RAW_TYPES)
        name = BlobProto.Type.Name(blob.raw_data_type)
        raise ProtoError(f"raw_data_type {name} is not supported; there are: {known}")
    dtype = np.dtype(kind)
    if len(blob.raw_data) % dtype.itemsize:
        raise ProtoError(
            f"raw_data has {len(blob.raw_data)} bytes, no multiple of {dtype.itemsize} as "
            f"{BlobProto.Type.Name(blob.raw_data_type)} needs"
        )
    return np.frombuffer(blob.raw_data, dtype)


def _check_count(blob: BlobProto, *, diff: bool) -> None:
    shape = blob_shape(blob)
    have, need = len(_values(blob, diff=diff)), math.prod(shape)
    if min(shape, default=0) < 0 or need > MAX_VALUES:
        raise ProtoError(
            f"a blob of shape {list(shape)} would have {need} values; its axes must not be "
            f"negative, and {MAX_VALUES} values are the most"
        )
    if have != need:
        raise ProtoError(
            f"a blob of shape {list(shape)} needs {need} values, "
            f"its {'diff' if diff else 'data'} has {have}"
        )


def _add_packed(blob: BlobProto, number: int, values: FloatArray) -> None:
    """Append to a packed float field by handing over its wire form: `extend` is 7 times slower."""
    length_delimited = 2
    content = values.tobytes()
    header = _varint(number << 3 | length_delimited) + _varint(len(content))
    blob.MergeFromString(header + content)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
