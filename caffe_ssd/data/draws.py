"""The random numbers of one sample.

Spec: ssd-data.md section 4.1.

Every sample owns a generator derived from the layer's seed and the number of the sample, so what
is drawn for it depends neither on the samples before it nor on who computes it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Draws:
    """The stream of one sample.

    Args:
        seed: the layer's, in 0..2^64-1.
        sample: how many records the reader had passed before this one.
    """

    def __init__(self, seed: int, sample: int) -> None:
        key = np.array([seed, sample], np.uint64)
        self._generator = np.random.Generator(np.random.Philox(key=key))

    def uniform(self, low: float, high: float) -> np.float32:
        """A float32 in [low, high]."""
        a, b = np.float32(low), np.float32(high)
        return min(a + (b - a) * self._generator.random(dtype=np.float32), b)

    def units(self, *shape: int) -> NDArray[np.float32]:
        """Independent float32 values in [0, 1)."""
        return self._generator.random(shape, np.float32)

    def below(self, count: int) -> int:
        """A whole number in 0..count-1."""
        return int(self._generator.integers(count))

    def integers(self, limit: int, count: int) -> NDArray[np.int64]:
        """Independent whole numbers in 0..limit-1, [count]."""
        return self._generator.integers(limit, size=count)

    def permutation(self, count: int) -> tuple[int, ...]:
        """The numbers 0..count-1 in random order."""
        return tuple(int(i) for i in self._generator.permutation(count))
