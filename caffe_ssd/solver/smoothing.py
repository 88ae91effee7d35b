"""The displayed loss: a running mean over the last `average_loss` iterations.

Spec: caffe-solver.md section 3. Losses stay on their device until somebody asks for the mean, so
that an iteration which displays nothing does not wait for the device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_MAX_PENDING = 1024  # bounds the memory of a run that never displays


class LossWindow:
    """The window and its mean.

    Args:
        size: how many losses the mean covers, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pending: list[Tensor] = []
        self._stored: list[np.float32] = []
        self._count = 0
        self._mean = np.float32(0)

    def add(self, loss: Tensor) -> None:
        """Take one iteration's loss, a tensor without axes."""
        self._pending.append(loss.detach())
        if len(self._pending) >= _MAX_PENDING:
            self._fold()

    @property
    def mean(self) -> float:
        """The smoothed loss; 0 before the first loss."""
        self._fold()
        return float(self._mean)

    def _fold(self) -> None:
        if not self._pending:
            return
        losses = torch.stack(self._pending).float().cpu().numpy()
        self._pending.clear()
        with np.errstate(all="ignore"):
            for loss in losses:
                self._fold_one(loss)

    def _fold_one(self, loss: np.float32) -> None:
        if len(self._stored) < self._size:
            self._stored.append(loss)
            n = np.float32(len(self._stored))
            self._mean = (self._mean * (n - np.float32(1)) + loss) / n
        else:
            place = self._count % self._size
            self._mean += (loss - self._stored[place]) / np.float32(self._size)
            self._stored[place] = loss
        self._count += 1
