"""What is made on the host before the device goes on, such as ground truth sorted by image.

A layer asks for it with `RunContext.from_host`. Who repeats a pass without calling its layers, as a
CUDA graph does, has the steps noted, and takes them itself for every further batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made", bound="HostMade")


class HostMade(Protocol):
    """Tensors made on the host, one axis of which differs from batch to batch."""

    @property
    def length(self) -> int:
        """Of that axis."""

    @property
    def is_plain(self) -> bool:
        """Whether the device can go on without asking the host what to do."""

    def padded(self: Made, length: int) -> Made:
        """The same for the device, with that axis so long."""

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors."""

    def with_tensors(self: Made, *tensors: Tensor) -> Made:
        """The same with other tensors in their place."""


def placed(made: Made, device: torch.device) -> Made:
    """The same on a device."""
    return made.with_tensors(*(x.to(device, non_blocking=True) for x in made.tensors()))


@dataclass(frozen=True, kw_only=True)
class HostStep:
    """One thing that a pass makes on the host.

    Args:
        source: which of the blobs that were sent from the host it is made of, in their order.
        make: makes it, of the blob on the host.
    """

    source: int
    make: Callable[[Tensor], HostMade]


@dataclass(kw_only=True)
class HostWork:
    """The host's part of a pass, in the order in which its layers ask.

    Args:
        steps: notes what is made.
        given: what the layers get, already on the device, instead of making it; None: they make it.
    """

    steps: list[HostStep]
    given: Iterator[HostMade] | None = None
