"""Measures the blocks of `caffe time`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Stopwatch:
    """Adds up times by name, in milliseconds.

    Args:
        device: waited for before each reading.
    """

    device: torch.device
    times: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time the block takes."""
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.times[name] = self.times.get(name, 0.0) + (time.perf_counter() - start) * 1e3

    def total(self, *names: str) -> float:
        """The sum of some times; 0 for what was not measured."""
        return sum(self.times.get(name, 0.0) for name in names)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
