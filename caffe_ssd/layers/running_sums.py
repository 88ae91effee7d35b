"""Running statistics as sums that decay and grow once per pass; those of a whole net at once.

Spec: caffe-layers.md section C. One layer by itself asks for some small calls, each of which costs
more than its work; a net of a hundred layers has a hundred times as many, or as few.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def decay_and_add(sums: Sequence[Tensor], added: Sequence[Tensor], fraction: float) -> None:
    """sums[i] = fraction * sums[i] + added[i], in place."""
    torch._foreach_mul_(list(sums), fraction)
    torch._foreach_add_(list(sums), list(added))


class RunningSums:
    """What a pass adds to running sums, put off to its end."""

    def __init__(self) -> None:
        self._waiting: dict[float, tuple[list[Tensor], list[Tensor]]] = {}
        self._ids: set[int] = set()

    def put_off(self, sums: Sequence[Tensor], added: Sequence[Tensor], fraction: float) -> None:
        """Do what `decay_and_add` does at the next `settle`."""
        if not self._ids.isdisjoint(map(id, sums)):
            self.settle()  # blobs shared by two layers decay once for each
        self._ids.update(map(id, sums))
        waiting_sums, waiting_added = self._waiting.setdefault(fraction, ([], []))
        waiting_sums += sums
        waiting_added += added

    def settle(self) -> None:
        """Do what was put off."""
        for fraction, (sums, added) in self._waiting.items():
            decay_and_add(sums, added, fraction)
        self._waiting.clear()
        self._ids.clear()
