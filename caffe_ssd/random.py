"""Caffe's random numbers: one MT19937 stream, and its exact formulas for what is drawn from it.

Spec: caffe-solver.md section 10. The words equal those of numpy's `RandomState(seed)`. Normal
values match in distribution only, as the reference's depend on its Boost version.
"""

from __future__ import annotations

import secrets

import numpy as np
from numpy.typing import NDArray

_WORD = 1 << 32


class CaffeRandom:
    """A stream of 32-bit words and the draws made from it.

    Args:
        seed: taken modulo 2^32; None takes entropy from the system.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed(secrets.randbits(32) if seed is None else seed)

    def seed(self, seed: int) -> None:
        """Start the stream anew."""
        self._state = np.random.RandomState(seed % _WORD)

    def words(self, count: int) -> NDArray[np.uint32]:
        """The next `count` 32-bit words."""
        return self._state.randint(0, _WORD, count, dtype=np.uint32)

    def word(self) -> int:
        """The next 32-bit word; what a new thread is seeded with."""
        return int(self.words(1)[0])

    def uniform(self, low: float, high: float, count: int) -> NDArray[np.float32]:
        """Float32 values in [low, high], both ends included, shape (count,)."""
        a = np.float32(low)
        b = np.nextafter(np.float32(high), np.float32(np.inf))
        values = np.empty(0, np.float32)
        while len(values) < count:
            words = self.words(count - len(values)).astype(np.float32)
            drawn = words / np.float32(_WORD) * (b - a) + a
            values = np.concatenate([values, drawn[drawn < b]])  # the reference redraws v >= b
        return values

    def normal(self, mean: float, std: float, count: int) -> NDArray[np.float32]:
        """Normal float32 values, shape (count,)."""
        return self._state.normal(mean, std, count).astype(np.float32)

    def bernoulli(self, probability: float, count: int) -> NDArray[np.bool_]:
        """True with the given probability, shape (count,); no draw is made for probability 0."""
        if probability == 0:
            return np.zeros(count, bool)
        return self.words(count) <= probability * (_WORD - 1)

    def integer(self, largest: int) -> int:
        """A whole number in 0..largest, both ends included."""
        bucket, rest = divmod(_WORD - 1, largest + 1)
        bucket += rest == largest
        while (drawn := self.word() // bucket) > largest:
            pass
        return drawn

    def shuffle(self, items: list[object]) -> None:
        """Shuffle a list in place, as the reference shuffles file lists."""
        for i in range(len(items) - 1, 0, -1):
            j = self.integer(i)
            items[i], items[j] = items[j], items[i]
