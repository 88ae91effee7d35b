"""Damages a valid sample: bits, bytes, cuts, splices, numbers, words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    b"0", b"-1", b"1", b"2147483647", b"-2147483648", b"4294967296", b"1e38", b"1e39", b"-1e-45",
    b"nan", b"inf", b"-inf", b"0.5", b"9" * 25, b"1" * 5000, b"99999", b"0x10", b"3.7", b"NaN",
)  # fmt: skip
STRANGE = (
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"{",
    b"}",
    b"[" * 2000,
    b'"',
    b"<",
    b"\\",
    b"\n",
)

_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE]-?\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{2,}")


def mutated(rng: Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples with one to four kinds of damage."""
    data = bytearray(rng.choice(samples))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        rng.choice(_DAMAGES)(rng, data, samples)
    return bytes(data[: 1 << 20])


def _flip(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        at, width = rng.randrange(len(data)), rng.choice((1, 2, 4, 8))
        value = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", bytes([rng.randrange(256)])))
        data[at : at + width] = value * min(width, len(data) - at)


def _cut(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 7, 40))]


def _insert(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.choice(STRANGE), rng.randbytes(rng.choice((1, 4, 30)))))


def _splice(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    other = rng.choice(samples)
    data[rng.randrange(len(data) + 1) :] = other[rng.randrange(len(other) + 1) :]


def _repeat(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    begin = rng.randrange(len(data) + 1)
    part = data[begin : begin + rng.choice((1, 5, 60, 400))]
    data[begin:begin] = part * rng.choice((1, 2, 30))


def _number(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    _replace(rng, data, _NUMBER, NUMBERS)


def _word(rng: Random, data: bytearray, samples: Sequence[bytes]) -> None:
    _replace(rng, data, _WORD, [match[0] for match in _WORD.finditer(rng.choice(samples)[:20_000])])


def _replace(
    rng: Random, data: bytearray, pattern: re.Pattern[bytes], values: Sequence[bytes]
) -> None:
    places = list(pattern.finditer(bytes(data[:100_000])))
    if places and values:
        begin, end = rng.choice(places).span()
        data[begin:end] = rng.choice(values)


_DAMAGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _flip, _set, _cut, _remove, _insert, _splice, _repeat, _number, _number, _number, _word,
)  # fmt: skip
