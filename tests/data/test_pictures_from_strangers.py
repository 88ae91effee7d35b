"""Pictures that promise too much, lack their end, or are none: every reader decodes alike."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from caffe_ssd.data.decode import (
    MAX_PIXELS_VARIABLE,
    TooLargeError,
    decode_bytes,
    decode_picture,
    read_picture,
)
from caffe_ssd.data.picture_header import stated_size
from caffe_ssd.errors import DataError, FileError, UsageError

IMAGE = np.random.default_rng(0).integers(0, 255, (37, 53, 3), dtype=np.uint8)
FORMATS = [
    "jpg",
    "png",
    "bmp",
    "webp",
    "tiff",
    "ppm",
    "pgm",
    "pbm",
    "pam",
    "pfm",
    "hdr",
    "ras",
    "gif",
    "jp2",
    "avif",
]


def encoded(extension, image=IMAGE):
    if extension in ("pgm", "pbm"):
        image = image[:, :, 0]
    if extension in ("hdr", "pfm"):
        image = image.astype(np.float32)
    try:
        return cv2.imencode(f".{extension}", image)[1].tobytes()
    except cv2.error:
        pytest.skip(f"this OpenCV does not write {extension}")


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("extension", FORMATS)
def test_the_size_is_read_from_the_header(extension):
    data = encoded(extension)
    assert stated_size(data) == (37, 53)
    for end in range(0, min(len(data), 400)):
        stated_size(data[:end])


@pytest.mark.parametrize("extension", FORMATS)
def test_too_many_pixels(extension, monkeypatch):
    data = encoded(extension)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(37 * 53))
    assert decode_picture(data, cv2.IMREAD_COLOR).shape == (37, 53, 3)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, str(37 * 53 - 1))
    with pytest.raises(TooLargeError, match=r"size of 37 x 53 .*allowed are 1 to 1960 pixels"):
        decode_picture(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize(("width", "height"), [(40000, 40000), (2**31 - 1, 1), (0, 0), (0, 7)])
def test_bombs_are_refused_before_they_are_decoded(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(png_header(width, height))
    with pytest.raises(TooLargeError, match=rf"a\.png: states a size of {height} x {width} pixels"):
        read_picture(tmp_path / "a.png")


def test_the_limit_must_be_a_number(monkeypatch):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "many")
    with pytest.raises(UsageError, match="CAFFE_MAX_PIXELS is 'many'"):
        decode_bytes(encoded("png"))


def test_a_jpeg_that_lacks_its_end(tmp_path):
    """It is what `cv2.imread` makes of it, wherever it ends."""
    data = encoded("jpg", cv2.resize(IMAGE, (160, 120)))
    path = tmp_path / "a.jpg"
    decoded = 0
    for missing in (
        0,
        1,
        2,
        3,
        50,
        len(data) // 2,
        len(data) - 700,
        len(data) - 610,
        len(data) - 9,
    ):
        path.write_bytes(data[: len(data) - missing])
        wanted = cv2.imread(str(path))
        if wanted is None:
            with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded as an image"):
                read_picture(path)
        else:
            assert np.array_equal(read_picture(path), wanted)
            decoded += 1
    assert decoded >= 6


def test_what_is_no_picture(tmp_path):
    path = tmp_path / "a.jpg"
    for data in (b"", b"text", encoded("png")[:30], b"\xff\xd8"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.jpg: cannot be decoded"):
            read_picture(path)
    for other, why in ((tmp_path, "it is a folder"), ("/dev/zero", "it is a device")):
        with pytest.raises(FileError, match=why):
            read_picture(other)
