"""Loads an image, resizes it if asked, and packs it into a Datum.

Spec: ssd-data.md sections 1 and 3.1.
Quirk: the file's own bytes are kept when nothing has to change; `-gray` then declares one
channel even if the file is a colour image.
Quirk: asking for only one of height and width resizes nothing, but the image is encoded anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.decode import TooLargeError, decode_picture
from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.files import read_bytes
from caffe_ssd.proto.caffe_pb2 import Datum

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How images are stored.

    Args:
        gray: load as one channel.
        height: exact height in pixels; 0 leaves it.
        width: exact width in pixels; 0 leaves it.
        min_dim: enlarge until the shorter side has this many pixels; 0 does nothing.
        max_dim: shrink until the longer side has no more than these; 0 does nothing. With
            `min_dim` or `max_dim`, `height` and `width` have no effect.
        encoded: store encoded bytes.
        encode_type: jpg, png, ...; implies `encoded`. Empty: the file's own extension.
    """

    gray: bool = False
    height: int = 0
    width: int = 0
    min_dim: int = 0
    max_dim: int = 0
    encoded: bool = False
    encode_type: str = ""

    def __post_init__(self) -> None:
        if self.encode_type and not _can_encode(self.encode_type):
            raise UsageError(
                f"-encode_type is {self.encode_type!r}, which OpenCV cannot write; "
                "common ones: jpg, png, bmp, webp"
            )

    @property
    def resizes(self) -> bool:
        """Whether any resize option is set."""
        return any((self.height, self.width, self.min_dim, self.max_dim))

    def encoding_for(self, path: str) -> str:
        """The encoding of the file's payload; empty for raw pixels."""
        if self.encode_type or not self.encoded:
            return self.encode_type
        guessed = _extension(path)
        if not guessed or not _can_encode(guessed):
            raise DataError(f"{path}: cannot tell the encoding from the name; give -encode_type")
        return guessed


def image_to_datum(path: str, options: ImageOptions) -> tuple[Datum, tuple[int, int]] | None:
    """Read an image file into a Datum without a label.

    Returns:
        The datum and the (height, width) of the file's image before any resizing, in pixels; None
        if it cannot be read.
    """
    data = _read_bytes(path)
    flag = cv2.IMREAD_GRAYSCALE if options.gray else cv2.IMREAD_COLOR
    original = None if data is None else _decode(path, data, flag)
    if data is None or original is None:
        return None
    image = resize(original, options)
    encoding = options.encoding_for(path)
    datum = Datum(
        channels=1 if image.ndim == 2 else image.shape[2],
        height=image.shape[0],
        width=image.shape[1],
    )
    if encoding and not options.resizes and _same_encoding(path, encoding):
        datum.data, datum.encoded = data, True
    elif encoding:
        datum.data, datum.encoded = encode(image, encoding), True
    else:
        planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        datum.data, datum.encoded = planes.tobytes(), False
    return datum, (original.shape[0], original.shape[1])


def image_size(path: str) -> tuple[int, int] | None:
    """The (height, width) of an image file in pixels; None if it cannot be read."""
    data = _read_bytes(path)
    image = None if data is None else _decode(path, data, cv2.IMREAD_COLOR)
    return None if image is None else (image.shape[0], image.shape[1])


def resize(image: Image, options: ImageOptions) -> Image:
    """Resize an image (H, W) or (H, W, 3) bilinearly as the options say."""
    if options.min_dim > 0 or options.max_dim > 0:
        factor = _resize_factor(min(image.shape[:2]), max(image.shape[:2]), options)
        if factor == 1:
            return image
        return np.asarray(cv2.resize(image, None, fx=factor, fy=factor), np.uint8)
    if options.height > 0 and options.width > 0:
        return np.asarray(cv2.resize(image, (options.width, options.height)), np.uint8)
    return image


def encode(image: Image, encoding: str) -> bytes:
    """Encode an image with OpenCV's default quality."""
    done, data = cv2.imencode(f".{encoding}", image)
    if not done:
        raise DataError(f"OpenCV could not encode an image as {encoding}")
    return bytes(data)


def _resize_factor(shorter: int, longer: int, options: ImageOptions) -> float:
    factor = np.float32(1)  # single precision throughout: the result decides the stored size
    if options.min_dim > 0 and shorter < options.min_dim:
        factor = np.float32(options.min_dim) / np.float32(shorter)
    if 0 < options.max_dim < int(factor * np.float32(longer)):
        factor = np.float32(options.max_dim) / np.float32(longer)
    return float(factor)


def _read_bytes(path: str) -> bytes | None:
    try:
        return read_bytes(path)
    except FileError:
        return None


def _decode(path: str, data: bytes, flag: int) -> Image | None:
    try:
        return decode_picture(data, flag).astype(np.uint8, copy=False)
    except TooLargeError as error:
        raise DataError(f"{path}: {error}") from error
    except DataError:
        return None


def _extension(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _same_encoding(path: str, encoding: str) -> bool:
    extension, encoding = _extension(path), encoding.lower()
    return extension == encoding or (encoding == "jpg" and extension == "jpeg")


def _can_encode(encoding: str) -> bool:
    try:
        return bool(cv2.haveImageWriter(f".{encoding}"))
    except cv2.error:
        return False
