"""Starts one training process per device on this machine and waits for them.

Spec: caffe-solver.md section 8. The processes leave the terminal's process group, so that a Ctrl-C
reaches this process only; it hands signals on to the root, which decides for all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from types import FrameType

import torch
from torch.multiprocessing.spawn import ProcessExitedException, spawn

from caffe_ssd.errors import SolverError
from caffe_ssd.solver.parallel import Place

Job = Callable[[torch.device, Place], int]

_HANDED_ON = [
    getattr(signal, name) for name in ("SIGINT", "SIGHUP", "SIGTERM") if hasattr(signal, name)
]


def launch(job: Job, devices: list[torch.device]) -> int:
    """Run the job once per device, each in its own process; returns the exit status.

    Args:
        job: can be pickled; returns an exit status, and says itself what went wrong. When one fails
            the others are ended.
        devices: rank r gets the r-th.

    Raises:
        SolverError: a process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="caffe-") as folder:
        address = f"file://{folder}/rendezvous"
        context = spawn(  # type: ignore[no-untyped-call]
            _run, args=(job, devices, address), nprocs=len(devices), join=False
        )

        def hand_on(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(ProcessLookupError):  # the root may have ended
                os.kill(context.pids()[0], number)

        before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
        try:
            while not context.join():
                pass
        except ProcessExitedException as error:
            if error.exit_code > 0:  # it has said why
                return error.exit_code
            name = signal.Signals(-error.exit_code).name if error.exit_code else "no status"
            raise SolverError(
                f"the process of device {error.error_index} was ended by {name} (out of memory?); "
                "the others were stopped"
            ) from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return 0


def _run(rank: int, job: Job, devices: list[torch.device], address: str) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    if devices[rank].type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    place = Place(rank=rank, world_size=len(devices), local_rank=rank, address=address)
    sys.exit(job(devices[rank], place))
