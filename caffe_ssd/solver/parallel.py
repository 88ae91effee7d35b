"""Training on several devices: one process each, gradients averaged in every iteration.

Spec: caffe-solver.md section 8. The batch size of a prototxt is per device. Every device normalises
its loss and batch-normalises by itself; running statistics come from device 0, and replace
everybody's before each iteration. In the original all of device 0's blobs do; here the others do so
once, as equal updates keep equal blobs equal. Device 0 alone displays, tests and writes snapshots.

Two options the original does not have let the batches of all devices count as one: `sync_bn` for
the statistics of BatchNorm, `sync_loss` for what losses are divided by where that is counted, as
the matches of MultiBoxLoss are. With both, G devices with n images each train as one with G * n.

The solver knows nothing of this: `join` gives it two callbacks, and `worker_settings` takes away
from the other devices what only device 0 does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from caffe_ssd.errors import PeerError, UsageError
from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.extensions.bn import PSPNetBN
from caffe_ssd.layers.loss_common import CountingLoss
from caffe_ssd.layers.peers import Peers, answering
from caffe_ssd.net.runner import running_state
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.agreement import check_agreement
from caffe_ssd.solver.hooks import Callback, Observer
from caffe_ssd.solver.meeting import meeting_store
from caffe_ssd.solver.reduction import Reduction, broadcast
from caffe_ssd.solver.solver import Solver

# How long a process waits for another one before it takes it for dead or stuck.
PATIENCE_S = 600
_GO_ON, _STOP, _WAIT, _TAKE_ALL = 0, 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands among those that train together.

    Args:
        rank: 0 is the root.
        world_size: how many there are.
        local_rank: which of this machine's devices is its own.
        address: where they meet, as `init_process_group` takes it.
        local_world_size: how many of them are on this machine; 0 for all.
    """

    rank: int
    world_size: int
    local_rank: int
    address: str = "env://"
    local_world_size: int = 0

    @property
    def is_root(self) -> bool:
        """Whether this process displays, tests and writes."""
        return self.rank == 0

    @property
    def num_local(self) -> int:
        """How many share this machine's cores."""
        return self.local_world_size or self.world_size


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
        here = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    except ValueError as error:
        names = "RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE"
        raise UsageError(f"{names} must be numbers: {error}") from error
    return Place(rank=rank, world_size=world_size, local_rank=local_rank, local_world_size=here)


def device_of(place: Place, devices: Sequence[torch.device]) -> torch.device:
    """The device of a process that `torchrun` started, among those of its machine.

    Args:
        place: where it stands.
        devices: what was chosen; a GPU that nobody named stands for all GPUs.

    Raises:
        UsageError: there are fewer devices than processes.
    """
    if devices[0].type == "cpu":
        return devices[0]
    if place.local_rank < len(devices):
        return devices[place.local_rank]
    raise UsageError(
        f"torchrun starts a process number {place.local_rank} on this machine (from 0), but there "
        f"are {len(devices)} GPUs for them: start as many processes per machine as -gpu names"
    )


@contextmanager
def process_group(
    place: Place, device: torch.device, patience_s: float = PATIENCE_S
) -> Iterator[None]:
    """Meet the other processes; part from them at the end of the block.

    Args:
        place: where this process stands.
        device: its device.
        patience_s: how long it waits for another process, now and in every iteration.

    Raises:
        PeerError: the others do not come.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        store = meeting_store(place.address, place.rank, place.world_size, patience_s)
        dist.init_process_group(
            backend,
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=timedelta(seconds=patience_s),
        )
    except (RuntimeError, ValueError) as error:
        raise PeerError(f"rank {place.rank} does not find the other processes: {error}") from error
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
    solver: Solver,
    place: Place,
    *,
    sync_bn: bool = False,
    sync_loss: bool = False,
    patience_s: float = PATIENCE_S,
) -> Callable[[], None]:
    """Make the solver train together with those of the other processes.

    Blobs are the root's when the first iteration begins, and whenever its number is not the next
    one. Whoever writes into blobs between iterations has to do so in every process.

    Args:
        solver: its net is the same on every device.
        place: where this process stands.
        sync_bn: BatchNorm layers normalise by the statistics of all devices' batches.
        sync_loss: losses that count what they are divided by count on all devices.
        patience_s: see `process_group`; while the root runs a test it keeps the others waiting.

    Returns:
        What the root calls when it ends early, so that the others do not wait for it.

    Raises:
        SolverError: the processes do not begin from the same; see `check_agreement`.
        PeerError: another process is gone or stuck; raised by steps, too.
    """
    with answering():
        control = dist.new_group(backend="gloo", timeout=timedelta(seconds=patience_s))
    check_agreement(solver, control)
    peers = _introduce(solver, sync_bn=sync_bn, sync_loss=sync_loss)

    def tell(word: int) -> int:
        message = torch.tensor(word)
        with answering():
            dist.broadcast(message, 0, group=control)
        return int(message)

    net = solver.net
    learning = [entry.blob for entry in net.learnable if entry.blob.requires_grad]
    late = {id(owner) for _, owner in net.shared_views}
    if solver.captured is not None:  # a replay tells of no gradient: all are sent behind it
        late = {id(blob) for blob in learning}
    reduction = Reduction(learning, late=late)
    expected = -1  # the iteration that follows the last one

    def on_start() -> None:
        nonlocal expected
        while (word := tell(_GO_ON if solver.iter == expected else _TAKE_ALL)) == _WAIT:
            pass
        if word == _STOP:
            raise StoppedByRoot
        everything = [entry.blob for entry in net.learnable]
        taken = everything if word == _TAKE_ALL else running_state(net.program)
        broadcast([blob.detach() for blob in taken])
        expected = solver.iter + 1
        peers.in_step = True

    def on_gradients_ready() -> None:
        peers.in_step = False  # tests and the last displayed pass are the root's alone
        reduction.finish()

    solver.callbacks.append(
        Callback(
            on_start=on_start,
            on_last_pass=reduction.begin,
            on_gradients_ready=on_gradients_ready,
        )
    )
    if place.is_root:
        solver.observers.append(_Hold(solver, tell, patience_s))

    def stop_the_others() -> None:
        if place.is_root:
            tell(_STOP)

    return stop_the_others


def _introduce(solver: Solver, *, sync_bn: bool, sync_loss: bool) -> Peers:
    """Tell the layers that want to know of the other devices."""
    peers = Peers()
    for layer in solver.net.layers:
        if isinstance(layer, BatchNorm | PSPNetBN) and sync_bn:
            layer.peers = peers
        if isinstance(layer, CountingLoss) and sync_loss:
            layer.peers = peers
    return peers


class _Hold(Observer):
    """Tells the others to wait while the root runs a test, which may take longer than they wait.

    Args:
        solver: the root's; the others have ended when it is at `max_iter`.
        tell: sends them a word.
        patience_s: how long they wait.
    """

    def __init__(self, solver: Solver, tell: Callable[[int], int], patience_s: float) -> None:
        self._solver, self._tell = solver, tell
        self._pause_s = patience_s / 4
        self._last = time.monotonic()

    def on_iteration(self, iteration: int) -> None:
        self._last = time.monotonic()

    def on_test_batch(self, index: int, done: int, total: int) -> None:
        is_awaited = self._solver.iter < self._solver.param.max_iter
        if is_awaited and time.monotonic() - self._last > self._pause_s:
            self._tell(_WAIT)
            self._last = time.monotonic()
