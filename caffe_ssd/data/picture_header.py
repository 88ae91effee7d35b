"""The size that a picture's header states, so that a small file cannot demand all memory.

The formats that OpenCV decodes; of each only the fields that lead to the size. What is not
recognised has no size here and is left to OpenCV, which refuses more than 2^30 pixels.

Sources: the formats' public descriptions (JPEG: ITU T.81; PNG: ISO 15948; TIFF 6.0; WebP: RFC 9649;
JPEG 2000: ISO 15444-1; HEIF: ISO 23008-12; OpenEXR, BMP, GIF89a, Netpbm, Radiance, Sun raster).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeAlias

Size: TypeAlias = tuple[int, int]

_NO_SIZE_MARKERS = (*range(0xD0, 0xD8), 0x01)  # restarts and TEM: markers without a length
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_PNM = re.compile(rb"P[1-7Ff]((?:\s+|#[^\n]*\n)*)(\d+)((?:\s+|#[^\n]*\n)+)(\d+)\s")
_PAM = re.compile(rb"\b(WIDTH|HEIGHT)\s+(\d+)")
_RADIANCE = re.compile(rb"[-+]Y\s+(\d+)\s+[-+]X\s+(\d+)")
_EXR_WINDOW = re.compile(rb"dataWindow\0box2i\0(.{4})(.{16})", re.DOTALL)


def stated_size(data: bytes) -> Size | None:
    """The (height, width) that a picture file states, in pixels; None if it cannot be told.

    Where a file holds several sizes (frames, tiles, thumbnails) it is the one with most pixels.

    Args:
        data: the whole file.
    """
    for magic, read in _READERS:
        if data.startswith(magic):
            try:
                return read(data)
            except (struct.error, IndexError):  # the header is cut off
                return None
    if data[4:8] == b"ftyp" or data[4:8] == b"jP  ":
        return _largest(_box_sizes(data))
    return None


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">2I", data, 16)
    return height, width


def _gif(data: bytes) -> Size | None:
    width, height = struct.unpack_from("<2H", data, 6)
    return height, width


def _bmp(data: bytes) -> Size:
    if struct.unpack_from("<I", data, 14)[0] < 16:
        width, height = struct.unpack_from("<2H", data, 18)
    else:
        width, height = struct.unpack_from("<2i", data, 18)
    return abs(height), abs(width)


def _jpeg(data: bytes) -> Size | None:
    return _largest(_jpeg_frames(data))


def _jpeg_frames(data: bytes) -> Iterator[Size]:
    """The frame headers of the picture itself, up to its first scan."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 9 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">2H", data, at + 5)
            yield height, width
        if marker == 0xDA:
            return
        length = 0 if marker in _NO_SIZE_MARKERS or marker == 0 else _be16(data, at + 2)
        at += 2 + length


def _webp(data: bytes) -> Size | None:
    if data[8:12] != b"WEBP":
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return height, width
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<2H", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _tiff(data: bytes) -> Size | None:
    return _largest(_tiff_pages(data))


def _tiff_pages(data: bytes) -> Iterator[Size]:
    order = "<" if data.startswith(b"II") else ">"
    is_big = struct.unpack_from(f"{order}H", data, 2)[0] == 43
    offset_format, count_format, entry_size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    at = struct.unpack_from(order + offset_format, data, 8 if is_big else 4)[0]
    seen: set[int] = set()
    while at and at not in seen and at < len(data):
        seen.add(at)
        count = struct.unpack_from(order + count_format, data, at)[0]
        at += struct.calcsize(order + count_format)
        sides = {}
        for _ in range(min(count, 4096)):
            tag, kind = struct.unpack_from(f"{order}2H", data, at)
            form = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
            if tag in (_TIFF_WIDTH, _TIFF_HEIGHT) and form is not None:
                sides[tag] = struct.unpack_from(order + form, data, at + (12 if is_big else 8))[0]
            at += entry_size
        yield sides.get(_TIFF_HEIGHT, 0), sides.get(_TIFF_WIDTH, 0)
        at = struct.unpack_from(order + offset_format, data, at)[0]


def _pnm(data: bytes) -> Size | None:
    if data.startswith(b"P7"):
        sides = {match[1]: int(match[2][:20]) for match in _PAM.finditer(data[:4096])}
        return sides.get(b"HEIGHT", 0), sides.get(b"WIDTH", 0)
    match = _PNM.match(data[:4096])
    return None if match is None else (int(match[4][:20]), int(match[2][:20]))


def _radiance(data: bytes) -> Size | None:
    match = _RADIANCE.search(data[:65536])
    return None if match is None else (int(match[1][:20]), int(match[2][:20]))


def _sun(data: bytes) -> Size:
    width, height = struct.unpack_from(">2I", data, 4)
    return height, width


def _exr(data: bytes) -> Size | None:
    match = _EXR_WINDOW.search(data[:65536])
    if match is None:
        return None
    xmin, ymin, xmax, ymax = struct.unpack("<4i", match[2])
    return abs(ymax - ymin) + 1, abs(xmax - xmin) + 1


def _jpeg2000_stream(data: bytes) -> Size:
    xmax, ymax, xmin, ymin = struct.unpack_from(">4I", data, 8)
    return max(0, ymax - ymin), max(0, xmax - xmin)


def _box_sizes(data: bytes) -> Iterator[Size]:
    """Sizes in the boxes of JPEG 2000 and AVIF/HEIF files, wherever they are nested."""
    for match in re.finditer(rb"ihdr|ispe", data[: 1 << 20]):
        at = match.end()
        if match[0] == b"ihdr" and at + 8 <= len(data):
            height, width = struct.unpack_from(">2I", data, at)
            yield height, width
        elif match[0] == b"ispe" and at + 12 <= len(data):
            width, height = struct.unpack_from(">2I", data, at + 4)
            yield height, width
    if (start := data.find(b"\xff\x4f\xff\x51", 0, 1 << 20)) >= 0 and start + 24 <= len(data):
        yield _jpeg2000_stream(data[start:])


def _largest(sizes: Iterator[Size]) -> Size | None:
    found: list[Size] = []
    with suppress(struct.error):  # cut off behind what was found
        found.extend(sizes)
    return max(found, key=lambda size: size[0] * size[1], default=None)


def _be16(data: bytes, at: int) -> int:
    return int(struct.unpack_from(">H", data, at)[0])


_READERS: tuple[tuple[bytes, Callable[[bytes], Size | None]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG", _png),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    (b"P", _pnm),
    (b"#?", _radiance),
    (b"\x59\xa6\x6a\x95", _sun),
    (b"\x76\x2f\x31\x01", _exr),
    (b"\xff\x4f\xff\x51", _jpeg2000_stream),
)
