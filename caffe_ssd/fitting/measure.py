"""How long an iteration of a training takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from caffe_ssd import devices
from caffe_ssd.fitting.machine import Machine
from caffe_ssd.fitting.quiet import quiet
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.solver import Solver

_WARM_UP, _MEASURED = 2, 4
NEEDED = _WARM_UP + _MEASURED + 1  # as max_iter


def seconds_per_iteration(
    param: SolverParameter, machine: Machine, fast: Sequence[str], workers: int | None
) -> float:
    """Train for a few iterations and time them.

    Args:
        param: a solver without tests and snapshots.
        machine: where.
        fast: see `Plan`.
        workers: that prepare data; None for the usual number.

    Returns:
        Seconds.

    Raises:
        CaffeError: the net cannot be built or trained.
    """
    if workers is None:
        workers = devices.default_workers(machine.device)
    roundtrip = "skip_jpeg_roundtrip" not in fast
    runtime = Runtime(data_workers=workers, rank=0, world_size=1, jpeg_roundtrip=roundtrip)
    devices.set_up_device(machine.device, tf32=False)
    if not machine.is_cuda:
        devices.keep_freed_memory()
    with quiet():
        solver = Solver(param, runtime=runtime, device=machine.device)
        if "bf16" in fast:
            solver.net.use_bfloat16()
        if "channels_last" in fast:
            solver.net.use_channels_last()
        solver.step(_WARM_UP)
        begin = time.perf_counter()
        solver.step(_MEASURED)
        if machine.is_cuda:
            torch.cuda.synchronize(machine.device)
        return (time.perf_counter() - begin) / _MEASURED
