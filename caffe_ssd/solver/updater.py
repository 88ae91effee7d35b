"""One update of all learnable blobs, and the history it keeps.

Spec: caffe-solver.md section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd import log
from caffe_ssd.errors import ProtoError
from caffe_ssd.net import LearnableBlob
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.updates import clip_gradients, regularize, rule_settings, update_rule


class Updater:
    """Applies the solver type's rule.

    Args:
        param: the solver's settings.
        learnable: the blobs, in net order.

    Attributes:
        history: the history blobs: the first ones of all learnable blobs, then the second ones.

    Raises:
        SolverError: see `update_rule`.
    """

    def __init__(self, param: SolverParameter, learnable: Sequence[LearnableBlob]) -> None:
        self._param = param
        self._rule = update_rule(param)
        self._settings = rule_settings(param)
        blobs = [entry.blob.detach() for entry in learnable]
        self.history = [
            torch.zeros_like(blob) for _ in range(self._rule.num_histories) for blob in blobs
        ]
        self._at_rest = [True] * len(blobs)  # whose histories are 0

    @torch.no_grad()
    def apply(
        self,
        learnable: Sequence[LearnableBlob],
        rate: float,
        iteration: int,
        *,
        store_updates: bool = False,
    ) -> None:
        """Turn the gradients into updates and subtract them from the blobs.

        Args:
            learnable: the blobs; their `grad` is used up, and None stands for 0.
            rate: the global learning rate.
            iteration: the number of completed updates.
            store_updates: leave the updates in the blobs' `grad`.
        """
        param = self._param
        decays = _products(param.weight_decay, [entry.decay_mult for entry in learnable])
        moving = self._moving(learnable, decays)
        if not moving:
            return
        decays = [decays[i] for i in moving]
        chosen = [learnable[i] for i in moving]
        weights = [entry.blob.detach() for entry in chosen]
        gradients = [_gradient_of(entry.blob) for entry in chosen]
        rows = range(0, len(self.history), len(learnable))
        history = [self.history[row + i] for row in rows for i in moving]
        clipping = clip_gradients(gradients, param.clip_gradients)
        if clipping is not None:
            log.CLIPPING.write(norm=clipping.norm, limit=clipping.limit, scale=clipping.scale)
        if param.iter_size != 1:
            torch._foreach_mul_(gradients, 1 / param.iter_size)
        regularize(gradients, weights, decays, param.regularization_type)
        rates = _products(rate, [entry.lr_mult for entry in chosen])
        updates = self._rule.apply(gradients, history, rates, self._settings, iteration)
        torch._foreach_sub_(weights, updates)
        if store_updates:
            torch._foreach_copy_(gradients, updates)

    def _moving(self, learnable: Sequence[LearnableBlob], decays: Sequence[float]) -> list[int]:
        """The blobs that an update can change: BatchNorm's statistics, for one, are not among them.

        Without a gradient and a decay nothing changes unless the history goes on. (With `delta` 0
        the reference divides 0 by 0 even then.)
        """
        by_rate = self._rule.rate_in_history
        if self._settings.delta == 0:
            return list(range(len(learnable)))
        moving = [
            i
            for i, (entry, rests) in enumerate(zip(learnable, self._at_rest, strict=True))
            if entry.blob.grad is not None
            or not rests
            or (decays[i] != 0 and (entry.lr_mult != 0 or not by_rate))
        ]
        for i in moving:
            self._at_rest[i] = False
        return moving

    def saved_history(self) -> list[NDArray[np.float32]]:
        """The history blobs as a solver state holds them."""
        return [blob.cpu().numpy() for blob in self.history]

    def check_history(self, saved: Sequence[NDArray[np.float32]], source: str) -> None:
        """Hold the history blobs of a solver state against those that are needed.

        Raises:
            ProtoError: their number or a shape is wrong; names `source`.
        """
        have, want = len(saved), len(self.history)
        if have != want:
            raise ProtoError(
                f"{source}: Incorrect length of history blobs. It holds {have}, "
                f"{self._param.type} needs {want} for this net"
            )
        for i, (mine, blob) in enumerate(zip(self.history, saved, strict=True)):
            if tuple(mine.shape) != blob.shape:
                raise ProtoError(
                    f"{source}: history blob {i} has shape {list(blob.shape)}, "
                    f"its learnable blob has {list(mine.shape)}"
                )

    def restore_history(self, saved: Sequence[NDArray[np.float32]], source: str) -> None:
        """Take over the history blobs of a solver state; see `check_history`."""
        self.check_history(saved, source)
        for mine, blob in zip(self.history, saved, strict=True):
            mine.copy_(torch.from_numpy(blob))
        rows = range(0, len(saved), len(self._at_rest) or 1)
        self._at_rest = [
            not any(saved[row + i].any() for row in rows) for i in range(len(self._at_rest))
        ]


def _gradient_of(blob: Tensor) -> Tensor:
    """A blob's gradient; 0 if it has none."""
    if blob.grad is None:
        blob.grad = torch.zeros_like(blob)
    return blob.grad


def _products(factor: float, multipliers: Sequence[float]) -> list[float]:
    """factor * multiplier, rounded to float32."""
    products = {m: float(np.float32(factor) * np.float32(m)) for m in set(multipliers)}
    return [products[m] for m in multipliers]
