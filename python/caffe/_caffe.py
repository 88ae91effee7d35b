"""The names that the original's compiled module has, for scripts that ask it for them.

Spec: caffe-net.md section 13. What trains on several devices is `caffe train`; a script trains on
one, and is told so where it asks for more.
"""

from __future__ import annotations

import time
from typing import NoReturn

import torch

from caffe.blob_vec import BlobVec
from caffe.logs import init_log, log
from caffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe.pycaffe import Net
from caffe.solvers import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.blob import Blob
from caffe_ssd.layers.python_interface import PythonLayer as Layer
from caffe_ssd.layers.registry import layer_types

__version__ = "1.0.0-rc3"

_ADVICE = (
    "a script trains on one device; several train together with `caffe train -solver FILE "
    "-gpu 0,1` or `torchrun -m caffe_ssd.cli.main train`"
)


def layer_type_list() -> list[str]:
    """The layer types that can be built, in byte order."""
    return list(layer_types())


def has_nccl() -> bool:
    """Whether scripts can train on several devices by themselves: they cannot."""
    return False


def solver_count() -> int:
    """How many solvers train together in this process: one."""
    return 1


def solver_rank() -> int:
    """Which of them this is: the first."""
    return 0


def set_solver_count(count: int) -> None:
    """Accept one solver.

    Raises:
        UsageError: more are wanted.
    """
    if count != 1:
        _refuse(f"set_solver_count({count})")


def set_solver_rank(rank: int) -> None:
    """Accept the first solver.

    Raises:
        UsageError: another is meant.
    """
    if rank != 0:
        _refuse(f"set_solver_rank({rank})")


def set_multiprocess(wanted: bool) -> None:
    """Accept a single process.

    Raises:
        UsageError: several are wanted.
    """
    if wanted:
        _refuse("set_multiprocess(True)")


def _refuse(what: str) -> NoReturn:
    raise UsageError(f"{what}: {_ADVICE}")


class NCCL:
    """Would connect the solvers of several processes.

    Raises:
        UsageError: always, with what to use instead.
    """

    def __init__(self, solver: Solver, uid: str) -> None:
        _refuse("NCCL")

    @staticmethod
    def new_uid() -> str:
        """See the class."""
        _refuse("NCCL.new_uid")


class Timer:
    """A stopwatch that waits for the device."""

    def __init__(self) -> None:
        self._begin = self._seconds = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._begin = _now()

    def stop(self) -> None:
        """End the measurement."""
        self._seconds = _now() - self._begin

    @property
    def ms(self) -> float:
        """Milliseconds between `start` and `stop`."""
        return 1e3 * self._seconds

    @property
    def us(self) -> float:
        """Microseconds between `start` and `stop`."""
        return 1e6 * self._seconds


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
