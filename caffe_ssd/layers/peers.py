"""The devices that train together, as layers see them.

Layers that compute something over a whole batch (BatchNorm its statistics, losses the number they
divide by) can do so over the batches of all devices. The solver hands them one `Peers` and says
when the devices are in step; at all other times the root runs alone and must not wait for anybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from caffe_ssd.errors import PeerError, first_line


class Peers:
    """The processes of the default group.

    Attributes:
        in_step: whether every device is running the same training pass right now.
    """

    def __init__(self) -> None:
        self.in_step = False

    @property
    def count(self) -> int:
        """How many devices there are, this one included."""
        return dist.get_world_size()

    def gather(self, values: Tensor) -> Tensor:
        """Everybody's values, in order of rank; every device must call it at the same point.

        The result is the same on every device to the last bit, whatever way it came, and so are
        sums over it.

        Args:
            values: (K), no gradient.

        Returns:
            (devices, K).
        """
        values = values.detach().contiguous()
        gathered = values.new_empty(self.count, values.numel())
        with answering():
            dist.all_gather(list(gathered.unbind()), values)
        return gathered

    def total(self, values: Tensor) -> Tensor:
        """The sum over all devices, added up in order of rank; shaped like `values`."""
        return torch.sum(self.gather(values.reshape(-1)), 0).reshape(values.shape)


@contextmanager
def answering() -> Iterator[None]:
    """Around whatever needs an answer of the other processes.

    Raises:
        PeerError: one is gone, or did not answer within the time that `process_group` was given.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own
        raise PeerError(
            f"rank {dist.get_rank()}: another process of this training has ended or does not "
            f"answer ({first_line(error)}); resume from the newest snapshot"
        ) from error


def in_step(peers: Peers | None) -> Peers | None:
    """The peers to compute with now; None to compute alone."""
    return peers if peers is not None and peers.in_step else None
