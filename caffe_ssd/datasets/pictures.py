"""Looks at picture files: size, EXIF rotation, channels, damage, and how they look in small."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.data.decode import decode_picture
from caffe_ssd.data.picture_header import stated_size
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.files import read_bytes

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
THUMBNAIL = 32
"""Side in pixels of the small picture that is kept of each."""

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureFile:
    """What a picture file is.

    Args:
        size: (height, width) in pixels, as people see it; (0, 0) if it cannot be read.
        orientation: EXIF's, 1 to 8; 1 where the file states none.
        channels: as stored: 1 gray, 3 colour, 4 with transparency.
        is_deep: it has more than 8 bits per channel.
        fault: why it cannot be read; nothing if it can.
        damage: what of it is missing, though it can be read; nothing if all is there.
        digest: SHA-256 of the file.
        thumbnail: [32, 32] uint8, gray.
    """

    size: tuple[int, int] = (0, 0)
    orientation: int = UPRIGHT
    channels: int = 3
    is_deep: bool = False
    fault: str = ""
    damage: str = ""
    digest: bytes = b""
    thumbnail: NDArray[np.uint8]

    @property
    def is_plain(self) -> bool:
        """Whether data layers see the file as people do: upright, 8 bits, in colour."""
        return self.orientation == UPRIGHT and self.channels == 3 and not self.is_deep


_NO_THUMBNAIL = np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)


def look_at(path: str | os.PathLike[str]) -> PictureFile:
    """Look at one file, which is decoded; damage is told, not raised."""
    try:
        data = read_bytes(path)
    except CaffeError as error:
        return PictureFile(fault=str(error), thumbnail=_NO_THUMBNAIL)
    try:
        return _look(data)
    except DataError as error:
        return PictureFile(fault=str(error), thumbnail=_NO_THUMBNAIL)


def upright_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """[H, W, 3] BGR: the picture as people see it.

    Raises:
        CaffeError: it cannot be read.
    """
    return decode_picture(read_bytes(path), cv2.IMREAD_COLOR).astype(np.uint8, copy=False)


def upright_jpeg(path: str | os.PathLike[str]) -> bytes:
    """The picture as people see it as a JPEG file in colour that states no rotation.

    Raises:
        CaffeError: it cannot be read.
    """
    _, data = cv2.imencode(".jpg", upright_picture(path), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(data)


def turned(box: AnnotatedBox, size: tuple[int, int], orientation: int) -> AnnotatedBox:
    """A box of the stored pixels on the picture as people see it.

    Args:
        box: the box.
        size: (height, width) of the stored pixels.
        orientation: EXIF's.
    """
    height, width = size
    left, top, right, bottom = box.corners_px
    if orientation in (2, 3, 7, 8):  # the stored x runs the other way
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    return AnnotatedBox(box.category, left, top, right, bottom, box.is_difficult)


def _look(data: bytes) -> PictureFile:
    orientation = exif_orientation(data)
    if data.startswith(_JPEG):
        size = stated_size(data)
        image = decode_picture(data, cv2.IMREAD_ANYCOLOR | _reduction(size))
        small = image
    else:
        image = decode_picture(data, cv2.IMREAD_UNCHANGED)
        size = (image.shape[0], image.shape[1])
        small = decode_picture(data, cv2.IMREAD_GRAYSCALE)
    if size is None:
        raise DataError("its header states no size")
    if orientation > 4:
        size = (size[1], size[0])
    is_cut = data.startswith(_JPEG) and b"\xff\xd9" not in data[-4096:]
    return PictureFile(
        size=size,
        orientation=orientation,
        channels=1 if image.ndim == 2 else image.shape[2],
        is_deep=image.dtype != np.uint8,
        damage="it ends too early: the rest of the picture is grey" if is_cut else "",
        digest=hashlib.sha256(data).digest(),
        thumbnail=thumbnail_of(small),
    )


def _reduction(size: tuple[int, int] | None) -> int:
    """Decode a JPEG in a part of its size, which is much quicker; only a thumbnail is made."""
    shorter = min(size) if size is not None else 0
    for factor, flag in ((8, 64), (4, 32), (2, 16)):
        if shorter >= 2 * factor * THUMBNAIL:
            return flag
    return 0


def thumbnail_of(image: NDArray[Any]) -> NDArray[np.uint8]:
    """[32, 32] gray, of a picture [H, W], [H, W, 1] or [H, W, 3]."""
    if image.dtype != np.uint8:
        image = image.clip(0, 255).astype(np.uint8)
    gray = image if image.ndim == 2 or image.shape[2] == 1 else image[:, :, :3].mean(2)
    small = cv2.resize(
        gray.reshape(image.shape[:2]), (THUMBNAIL,) * 2, interpolation=cv2.INTER_AREA
    )
    return np.asarray(small.round(), np.uint8)


def exif_orientation(data: bytes) -> int:
    """EXIF's orientation of a JPEG, PNG or WebP file; 1 (upright) if it states none."""
    start = _exif_start(data)
    if start < 0:
        return UPRIGHT
    order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if order is None:
        return UPRIGHT
    try:
        at = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
        count = struct.unpack_from(f"{order}H", data, at)[0]
        for entry in range(at + 2, at + 2 + 12 * min(count, 512), 12):
            tag, kind = struct.unpack_from(f"{order}2H", data, entry)
            if tag == _ORIENTATION_TAG and kind == 3:
                value = int(struct.unpack_from(f"{order}H", data, entry + 8)[0])
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT


def _exif_start(data: bytes) -> int:
    """Where the TIFF header of the EXIF data stands; -1 if there is none."""
    if data.startswith(_JPEG):
        return _jpeg_exif_start(data)
    mark = b"eXIf" if data.startswith(_PNG) else b"EXIF" if data[8:12] == b"WEBP" else b""
    at = data.find(mark) if mark else -1
    if at < 0:
        return -1
    match = re.compile(rb"Exif\0\0").match(data, at + 8)
    return at + 4 if mark == b"eXIf" else (match.end() if match is not None else at + 8)


def _jpeg_exif_start(data: bytes) -> int:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xDA, 0xD9):
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            return at + 10
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1
