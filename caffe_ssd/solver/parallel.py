"""Training on several devices: one process each, gradients averaged in every iteration.

Spec: caffe-solver.md section 8. The batch size of a prototxt is per device. Every device normalises
its loss and batch-normalises by itself; running statistics come from device 0, whose blobs replace
everybody's before each iteration. Device 0 alone displays, tests and writes snapshots.

Two options the original does not have let the batches of all devices count as one: `sync_bn` for
the statistics of BatchNorm, `sync_loss` for what losses are divided by where that is counted, as
the matches of MultiBoxLoss are. With both, G devices with n images each train as one with G * n.

The solver knows nothing of this: `join` gives it two callbacks, and `worker_settings` takes away
from the other devices what only device 0 does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from caffe_ssd.errors import UsageError
from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.extensions.bn import PSPNetBN
from caffe_ssd.layers.loss_common import CountingLoss
from caffe_ssd.layers.peers import Peers
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.hooks import Callback
from caffe_ssd.solver.solver import Solver

# The others wait while device 0 runs a test over a whole data set.
_PATIENCE = timedelta(days=1)
_GO_ON, _STOP = 0, 1


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands among those that train together.

    Args:
        rank: 0 is the root.
        world_size: how many there are.
        local_rank: which of this machine's devices is its own.
        address: where they meet, as `init_process_group` takes it.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str = "env://"

    @property
    def is_root(self) -> bool:
        """Whether this process displays, tests and writes."""
        return self.rank == 0


class StoppedByRoot(Exception):
    """Raised in a worker's `step` when the root stopped."""


def place_from_environment() -> Place | None:
    """The place `torchrun` gave this process; None if it was not started by it.

    Raises:
        UsageError: the variables are no numbers.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    try:
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from error
    return Place(rank=rank, world_size=world_size, local_rank=local_rank)


@contextmanager
def process_group(place: Place, device: torch.device) -> Iterator[None]:
    """Meet the other processes; part from them at the end of the block."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method=place.address,
        rank=place.rank,
        world_size=place.world_size,
        timeout=_PATIENCE,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


def worker_settings(param: SolverParameter, rank: int) -> SolverParameter:
    """The settings of device `rank` > 0: the same training without display, tests, snapshots."""
    worker = SolverParameter()
    worker.CopyFrom(param)
    for field in ("test_net", "test_net_param", "test_iter", "test_state"):
        worker.ClearField(field)
    worker.test_interval = worker.display = worker.snapshot = 0
    worker.snapshot_after_train = False
    if param.random_seed >= 0:
        worker.random_seed = param.random_seed + rank
    return worker


def join(
    solver: Solver, place: Place, *, sync_bn: bool = False, sync_loss: bool = False
) -> Callable[[], None]:
    """Make the solver train together with those of the other processes.

    Args:
        solver: its net is the same on every device.
        place: where this process stands.
        sync_bn: BatchNorm layers normalise by the statistics of all devices' batches.
        sync_loss: losses that count what they are divided by count on all devices.

    Returns:
        What the root calls when it ends early, so that the others do not wait for it for ever.
    """
    control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    peers = Peers()
    for layer in solver.net.layers:
        if isinstance(layer, BatchNorm | PSPNetBN) and sync_bn:
            layer.peers = peers
        if isinstance(layer, CountingLoss) and sync_loss:
            layer.peers = peers

    def tell(word: int) -> int:
        message = torch.tensor(word)
        dist.broadcast(message, 0, group=control)
        return int(message)

    def on_start() -> None:
        if tell(_GO_ON) == _STOP:
            raise StoppedByRoot
        broadcast([entry.blob.detach() for entry in solver.net.learnable])
        peers.in_step = True

    def on_gradients_ready() -> None:
        peers.in_step = False  # tests and the last displayed pass are the root's alone
        gradients = [entry.blob.grad for entry in solver.net.learnable]
        average([grad for grad in gradients if grad is not None])

    solver.callbacks.append(Callback(on_start=on_start, on_gradients_ready=on_gradients_ready))

    def stop_the_others() -> None:
        if place.is_root:
            tell(_STOP)

    return stop_the_others


def broadcast(tensors: list[Tensor]) -> None:
    """Give every process the values of process 0, in place."""
    flat = _flattened(tensors)
    dist.broadcast(flat, 0)
    _unflatten(flat, tensors)


def average(tensors: list[Tensor]) -> None:
    """Replace the values by their mean over all processes, in place."""
    flat = _flattened(tensors)
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    _unflatten(flat, tensors)


def _flattened(tensors: list[Tensor]) -> Tensor:
    """All values in one tensor: one transfer is much faster than hundreds."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _unflatten(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    views = [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
    torch._foreach_copy_(tensors, views)
