"""Whether the replay of a captured pass gives what the pass gives when its layers are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from caffe_ssd.errors import NetError
from caffe_ssd.net.result import NetResult
from caffe_ssd.net.runner import running_state, state_kept

if TYPE_CHECKING:
    from caffe_ssd.net.net import Net

# Kernels that add in no fixed order differ by the last bits, those of bfloat16 by some thousandths;
# a number that was decided for another batch differs by far more. Gradients that are nothing but
# rounding, such as that of a bias before BatchNorm, are measured by the net's largest.
TOLERANCE = 1e-2
_OF_LARGEST = 1e-4


class ReplayCheck:
    """Compares passes of one net.

    Args:
        net: the net.
    """

    def __init__(self, net: Net) -> None:
        self._net = net

    def compared(
        self, replayed: Callable[[], NetResult], as_usual: Callable[[], NetResult]
    ) -> tuple[NetResult, bool]:
        """Run a pass in both ways; it counts once, as replayed.

        Args:
            replayed: replays the pass.
            as_usual: runs it.

        Returns:
            Its result, and whether the two could be compared: not where a number is not finite.

        Raises:
            NetError: loss, gradients or running statistics differ.
        """
        net = self._net
        learning = [entry for entry in net.learnable if entry.blob.grad is not None]
        gradients = [entry.blob.grad for entry in learning if entry.blob.grad is not None]
        state = running_state(net.program)
        sums = _copies(gradients)
        random = torch.cuda.get_rng_state(net.device)
        _set_to_zero(gradients)
        with state_kept(state):
            loss = as_usual().loss
            want_gradients, want_state = _copies(gradients), _copies(state)
        _set_to_zero(gradients)
        torch.cuda.set_rng_state(random, net.device)
        result = replayed()
        places = [f"the gradient of layer {e.layer!r}, blob {e.index}" for e in learning]
        was_told = True
        for names, have, want in (
            (["the loss"], [result.loss], [loss]),
            (places, gradients, want_gradients),
            (["running statistics"] * len(state), state, want_state),
        ):
            was_told &= _compare(names, have, want)
        if gradients:
            torch._foreach_add_(gradients, sums)
        return result, was_told


def _compare(names: Sequence[str], have: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    """Whether the numbers could be compared.

    Raises:
        NetError: they differ.
    """
    if not have:
        return True
    sizes = torch.stack([x.detach().float().norm() for x in want])
    gaps = torch.stack([(x.detach() - y).float().norm() for x, y in zip(have, want, strict=True)])
    table = torch.stack([gaps, TOLERANCE * (sizes + _OF_LARGEST * sizes.max()), sizes]).tolist()
    if not all(size < float("inf") for size in table[2]):
        return False
    for name, gap, most, size in zip(names, *table, strict=True):
        if not gap <= most:
            raise NetError(
                f"a replayed CUDA graph gives other numbers than the pass it stands for: {name} "
                f"is off by {gap:.3g} of {size:.3g}; leave -cuda_graph out"
            )
    return True


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [x.detach().clone() for x in tensors]


def _set_to_zero(tensors: Sequence[Tensor]) -> None:
    if tensors:
        torch._foreach_zero_(list(tensors))
