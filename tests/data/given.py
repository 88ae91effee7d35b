"""Draws that are known beforehand."""

from __future__ import annotations

import numpy as np

from caffe_ssd.data.draws import Draws


class Given(Draws):
    """Gives out prepared numbers in place of random ones.

    Args:
        numbers: in [0, 1), in the order in which they are asked for.
    """

    def __init__(self, *numbers: float) -> None:
        self.numbers = iter(np.float32(numbers))

    def uniform(self, low: float, high: float) -> np.float32:
        return np.float32(low) + np.float32(high - low) * next(self.numbers)

    def units(self, *shape: int) -> np.ndarray:
        return np.array([next(self.numbers) for _ in range(np.prod(shape))]).reshape(shape)
