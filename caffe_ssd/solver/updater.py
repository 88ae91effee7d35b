"""One update of all learnable blobs, and the history it keeps.

Spec: caffe-solver.md section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

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
            learnable: the blobs, every one with its `grad`, which is used up.
            rate: the global learning rate.
            iteration: the number of completed updates.
            store_updates: leave the updates in the blobs' `grad`.
        """
        if not learnable:
            return
        param = self._param
        weights = [entry.blob.detach() for entry in learnable]
        gradients = [entry.blob.grad for entry in learnable if entry.blob.grad is not None]
        clipping = clip_gradients(gradients, param.clip_gradients)
        if clipping is not None:
            log.CLIPPING.write(norm=clipping.norm, limit=clipping.limit, scale=clipping.scale)
        if param.iter_size != 1:
            torch._foreach_mul_(gradients, 1 / param.iter_size)
        decays = _products(param.weight_decay, [entry.decay_mult for entry in learnable])
        regularize(gradients, weights, decays, param.regularization_type)
        rates = _products(rate, [entry.lr_mult for entry in learnable])
        updates = self._rule.apply(gradients, self.history, rates, self._settings, iteration)
        torch._foreach_sub_(weights, updates)
        if store_updates:
            torch._foreach_copy_(gradients, updates)

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


def _products(factor: float, multipliers: Sequence[float]) -> list[float]:
    """factor * multiplier, rounded to float32."""
    products = {m: float(np.float32(factor) * np.float32(m)) for m in set(multipliers)}
    return [products[m] for m in multipliers]
