"""Encoded pictures and Datum messages -> images, and the JPEG round trip.

Every reader of pictures decodes here: a picture whose header states more than `max_pixels()` pixels
is refused before memory is taken for it, and a JPEG that lacks its end is read as `cv2.imread`
reads it, with what is missing left grey.

Spec: ssd-data.md section 4, decoding.
Quirk: without force_color and force_gray an image keeps the channels of its file, and an EXIF
    rotation is ignored; with either of them OpenCV applies the rotation.

Images are (H, W, C), BGR, uint8; raw float records are float32.
"""

from __future__ import annotations

import math
import os
from enum import IntEnum
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.picture_header import stated_size
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import read_bytes
from caffe_ssd.proto.caffe_pb2 import Datum

Image: TypeAlias = NDArray[Any]

JPEG_QUALITY = 95  # OpenCV's default, which the reference relies on

MAX_PIXELS_VARIABLE = "CAFFE_MAX_PIXELS"
MAX_PIXELS = 1 << 27
"""Pixels of the largest picture that is decoded, unless the environment variable says otherwise."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_LONGEST_SEGMENT = 1 << 16


class TooLargeError(DataError):
    """A picture states a size that is not allowed."""


class ColorMode(IntEnum):
    """How encoded images are decoded; the values are OpenCV's flags."""

    NATIVE = cv2.IMREAD_UNCHANGED
    COLOR = cv2.IMREAD_COLOR
    GRAY = cv2.IMREAD_GRAYSCALE


def decode_datum(datum: Datum, mode: ColorMode = ColorMode.NATIVE) -> Image:
    """The pixels of a record.

    Args:
        datum: encoded, or raw in planar order.
        mode: for encoded records; raw ones are taken as they are.

    Returns:
        [H, W, C]; C is 1 or 3 unless the record is raw.

    Raises:
        DataError: the bytes are no image, have too few values, or are not 8-bit gray or BGR.
    """
    if datum.encoded:
        return decode_bytes(datum.data, mode)
    shape = (datum.channels, datum.height, datum.width)
    if datum.data:
        flat: Image = np.frombuffer(datum.data, np.uint8)
    else:
        flat = np.array(datum.float_data, np.float32)
    if min(shape) <= 0 or flat.size != math.prod(shape):
        raise DataError(
            f"is not encoded and has {flat.size} values, "
            f"but channels x height x width are {' x '.join(map(str, shape))}"
        )
    return np.ascontiguousarray(flat.reshape(shape).transpose(1, 2, 0))


def decode_bytes(data: bytes, mode: ColorMode = ColorMode.NATIVE) -> Image:
    """Decode an image file; see `decode_datum`."""
    image = with_channel_axis(decode_picture(data, int(mode)))
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise DataError(
            f"is a {image.dtype} image with {image.shape[2]} channels; only 8-bit images with 1 or "
            "3 channels can be read as they are: set transform_param.force_color"
        )
    return image


def decode_picture(data: bytes, flags: int) -> Image:
    """Decode a picture file as OpenCV does.

    Args:
        data: the file's bytes.
        flags: OpenCV's `IMREAD_...`.

    Returns:
        [H, W] or [H, W, C]; the type of its values depends on the file and the flags.

    Raises:
        DataError: it cannot be decoded, or (TooLargeError) states a size that is not allowed. The
            message is to follow the name of the file or record.
    """
    size = stated_size(data)
    if size is not None:
        check_size(size, "states")
    image, length = None, len(data)
    if data:
        if data.startswith(_JPEG_START) and not data.endswith(_JPEG_END):
            data += _JPEG_END * (_LONGEST_SEGMENT // 2)  # as libjpeg makes up the end of a file
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error:
            image = None
    if image is None:
        raise DataError(f"cannot be decoded as an image ({length} bytes)")
    return image


def check_size(size: tuple[int, int], who: str) -> None:
    """Make sure that pixels may be decoded.

    Args:
        size: (height, width) that a file states.
        who: the beginning of a message, as "a.mp4 states".

    Raises:
        TooLargeError: they may not.
    """
    if not 0 < size[0] * size[1] <= max_pixels():
        raise TooLargeError(
            f"{who} a size of {size[0]} x {size[1]} pixels (height x width); allowed are 1 to "
            f"{max_pixels()} pixels in all (environment variable {MAX_PIXELS_VARIABLE})"
        )


def read_picture(path: str | os.PathLike[str], flags: int = cv2.IMREAD_COLOR) -> Image:
    """Read a picture file; see `decode_picture`.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no picture; names the file.
    """
    try:
        return decode_picture(read_bytes(path), flags)
    except DataError as error:
        raise type(error)(f"{os.fspath(path)}: {error}") from error


def max_pixels() -> int:
    """How many pixels a picture may have.

    Raises:
        UsageError: the environment variable is no whole number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, str(MAX_PIXELS))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{MAX_PIXELS_VARIABLE} is {text!r}; allowed: a whole number") from None


def jpeg_roundtrip(image: Image, quality: int = JPEG_QUALITY) -> Image:
    """Encode as JPEG and decode again; the number of channels stays."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return with_channel_axis(decoded)


def raw_datum(image: Image, label: int) -> Datum:
    """The record of an 8-bit image [H, W] or [H, W, C], not encoded; see `decode_datum`."""
    planes = with_channel_axis(image).transpose(2, 0, 1)
    channels, height, width = planes.shape
    return Datum(channels=channels, height=height, width=width, data=planes.tobytes(), label=label)


def with_channel_axis(image: Image) -> Image:
    """[H, W, C] of what OpenCV returned, which drops the last axis of one-channel images."""
    return image[:, :, None] if image.ndim == 2 else image
