"""What holds for every instruction of one pass through a net: where and how it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

_AS_IT_IS: AbstractContextManager[None] = nullcontext()


@dataclass(kw_only=True)
class RunContext:
    """See the module's docstring. Layers with `takes_context` are called with it.

    Args:
        device: where the layers' blobs lie.
        bfloat16: convolutions and matrix products calculate in bfloat16; blobs stay float32.
        channels_last: images have their channels innermost.
        batch_size: images in this pass: the first axis of the first top of a source. None until a
            source has run.
    """

    device: torch.device
    bfloat16: bool = False
    channels_last: bool = False
    batch_size: int | None = None

    def received(self, tops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a source made or a caller feeds, where and as the layers want it."""
        placed = tuple(self._placed(top) for top in tops)
        if self.batch_size is None and placed and placed[0].dim():
            self.batch_size = placed[0].shape[0]
        return placed

    def _placed(self, top: Tensor) -> Tensor:
        top = top.to(self.device, non_blocking=True)
        if self.channels_last and top.dim() == 4:
            return top.contiguous(memory_format=torch.channels_last)
        return top

    def precision(self) -> AbstractContextManager[None]:
        """A block in which layers calculate as the net wants it."""
        if not self.bfloat16:
            return _AS_IT_IS
        return torch.autocast(self.device.type, torch.bfloat16)
