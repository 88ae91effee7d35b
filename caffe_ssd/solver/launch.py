"""Starts one training process per device on this machine and waits for them.

Spec: caffe-solver.md section 8. The processes leave the terminal's process group, so that a Ctrl-C
reaches this process only; it hands signals on to the root, which decides for all. A second signal
to stop kills them all, those that hang included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType

import torch
from torch.multiprocessing.spawn import spawn

from caffe_ssd.errors import SolverError
from caffe_ssd.solver.hooks import SecondSignal
from caffe_ssd.solver.parallel import Place

Job = Callable[[torch.device, Place], int]

_HANDED_ON = ("SIGINT", "SIGHUP", "SIGTERM")
_STOPPING = ("SIGINT", "SIGTERM")
# When one has failed, the others soon find out and say so; one that hangs does not.
_GRACE_S = 5.0


def launch(job: Job, devices: list[torch.device]) -> int:
    """Run the job once per device, each in its own process; returns the exit status.

    Args:
        job: can be pickled; returns an exit status, and says itself what went wrong. When one fails
            the others are ended.
        devices: rank r gets the r-th.

    Raises:
        SolverError: a process was killed.
        KeyboardInterrupt: a second signal to stop came; all processes are gone.
    """
    with tempfile.TemporaryDirectory(prefix="caffe-") as folder:
        address = f"file://{folder}/rendezvous"
        context = spawn(  # type: ignore[no-untyped-call]
            _run, args=(job, devices, address), nprocs=len(devices), join=False
        )
        processes: Sequence[BaseProcess] = context.processes
        try:
            with _handing_on(processes):
                return _status(processes)
        finally:
            _kill(processes)


def _status(processes: Sequence[BaseProcess]) -> int:
    """Wait for all to end, or for the first that fails; what the exit status is."""
    left = dict(enumerate(processes))
    while left:
        wait([process.sentinel for process in left.values()])
        for rank, process in list(left.items()):
            if process.exitcode:
                _let_the_others_end(processes)
                return _explain(rank, process.exitcode)
            if process.exitcode == 0:
                del left[rank]
    return 0


def _let_the_others_end(processes: Sequence[BaseProcess]) -> None:
    end = time.monotonic() + _GRACE_S
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))


def _explain(rank: int, code: int) -> int:
    if code > 0:  # it has said why
        return code
    name = signal.Signals(-code).name
    raise SolverError(
        f"the process of device {rank} was ended by {name} (out of memory?); the others were "
        "stopped"
    )


@contextmanager
def _handing_on(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Hand signals on to the root while the block runs; the second one to stop kills all."""
    second = SecondSignal()
    stopping = {getattr(signal, name) for name in _STOPPING if hasattr(signal, name)}

    def hand_on(number: int, frame: FrameType | None) -> None:
        if number in stopping and second.is_second():
            raise KeyboardInterrupt
        root = processes[0].pid
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            if root is not None:
                os.kill(root, number)

    numbers = [getattr(signal, name) for name in _HANDED_ON if hasattr(signal, name)]
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill(processes: Sequence[BaseProcess]) -> None:
    """End those that are left, with their data workers; a stopped process hears nothing else."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            with contextlib.suppress(OSError, AttributeError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()  # before it had a group of its own
        process.join()


def _run(rank: int, job: Job, devices: list[torch.device], address: str) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    if devices[rank].type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    place = Place(rank=rank, world_size=len(devices), local_rank=rank, address=address)
    try:
        status = job(devices[rank], place)
    except Exception:  # a fault of ours
        traceback.print_exc()
        status = 1
    sys.exit(status)
