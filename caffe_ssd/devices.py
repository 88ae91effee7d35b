"""Which devices to run on, and how they are set up.

Spec: caffe-net.md section 19.

Deliberate difference: where a GPU is wanted and there is none, everything runs on the CPU, after a
warning; the reference aborts.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import logging
import os
import shutil
import sys
from pathlib import Path

import torch

from caffe_ssd import log
from caffe_ssd.errors import UsageError
from caffe_ssd.proto.caffe_pb2 import SolverParameter

logger = logging.getLogger(__name__)

_AMPERE = (8, 0)  # compute capability; the first with bfloat16 and TF32 in its tensor cores
_FIXED_WORKSPACE = ":4096:8"  # of cuBLAS, which otherwise adds in any order
_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_WORDS = ("avx512_bf16", "amx_bf16", "bf16")  # the last one of ARM

# Of the GNU C library's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGEST_IN_HEAP = 32 << 20  # bytes; the most that the library takes as a threshold
_MANY = 1 << 16  # blocks outside of the heap; the library's default
_NEVER = 2**31 - 1


def choose_devices(
    gpu: str, solver: SolverParameter | None = None, *, alone: bool = True
) -> list[torch.device]:
    """The devices that a list of GPUs names, or else the solver's; at least one.

    Args:
        gpu: ids separated by commas, "all", or nothing.
        solver: counts if `gpu` is empty: its solver_mode and device_id.
        alone: False where others run on this machine, too, and one device_id cannot serve all: then
            all GPUs are chosen in its place.

    Raises:
        UsageError: an id that is no number, comes twice, or that the machine does not have.
    """
    available = torch.cuda.device_count()
    if gpu == "all":
        ids = list(range(max(available, 1)))
    elif gpu:
        ids = _ids(gpu)
    elif solver is not None and solver.solver_mode == SolverParameter.GPU:
        ids = [solver.device_id] if alone else list(range(max(available, 1)))
    else:
        return [torch.device("cpu")]
    if available == 0:
        how = ", in one process" if len(ids) > 1 and alone else ""
        logger.warning("There is no CUDA device: running on the CPU instead%s.", how)
        return [torch.device("cpu")]
    missing = [i for i in ids if i not in range(available)]
    if missing:
        raise UsageError(f"no GPU {missing[0]}; this machine has 0 to {available - 1}")
    return [torch.device("cuda", i) for i in ids]


def device_named(name: str | torch.device) -> torch.device:
    """The device of this name: "cpu", "cuda", "cuda:1".

    Raises:
        UsageError: there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device {name!r}; there are cpu, cuda and cuda:N") from None
    available = torch.cuda.device_count()
    if device.type == "cuda" and not (device.index or 0) < available:
        raise UsageError(f"no device {str(device)!r}; this machine has {available} CUDA devices")
    return device


def announce(devices: list[torch.device]) -> None:
    """Log which devices are used."""
    ids = [device.index for device in devices if device.type == "cuda"]
    if not ids:
        log.USE_CPU.write()
        return
    log.USING_GPUS.write(ids=", ".join(map(str, ids)))
    for i in ids:
        log.GPU_NAME.write(id=i, name=torch.cuda.get_device_name(i))


def announce_one(device: torch.device) -> None:
    """Log which device is used, in the words of the actions that use only one."""
    if device.type == "cuda":
        log.USE_GPU.write(id=device.index)
    else:
        log.USE_ONE_CPU.write()


def check_compiler(device: torch.device) -> None:
    """Make sure that torch.compile finds what it needs for a device.

    Raises:
        UsageError: it does not; says what is missing.
    """
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UsageError("-compile needs the package triton for a GPU, which is not installed")
    default = "clang++" if sys.platform == "darwin" else "g++"
    name = os.environ.get("CXX", default)
    if shutil.which(name) is None:
        raise UsageError(
            f"-compile needs a C++ compiler, and there is no {name!r}; install one, name another "
            "one in the environment variable CXX, or leave -compile out"
        )


def set_up_device(device: torch.device, *, tf32: bool, deterministic: bool = False) -> None:
    """Choose exact arithmetic unless `tf32` is wanted, and fast kernels for fixed sizes.

    Args:
        device: to be used.
        tf32: see `allow_tf32`.
        deterministic: only kernels that give the same bits every time; an operation that has none
            is an error. It changes nothing on the CPU, which gives the same bits anyway.
    """
    allow_tf32(tf32)
    torch.backends.cudnn.benchmark = True
    if deterministic and device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", _FIXED_WORKSPACE)
        torch.use_deterministic_algorithms(True)
    if device.type == "cuda" and device.index is not None:  # else the current one stays it
        torch.cuda.set_device(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16, so that they are worth while."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= _AMPERE
    try:
        words = set(_CPU_INFO.read_text().split())
    except OSError:  # not Linux: nobody says
        return False
    return not words.isdisjoint(_BFLOAT16_WORDS)


def has_tf32(device: torch.device) -> bool:
    """Whether a device knows TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE


def allow_tf32(allowed: bool) -> None:
    """Let CUDA devices round the factors of products to 10 bits, or keep them from it."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def default_workers(device: torch.device, num_processes: int = 1) -> int:
    """How many data worker processes a training process should have; 0 where no core is left.

    Args:
        device: where it trains. On the CPU half of the cores are left to that, else one.
        num_processes: processes that train on this machine and share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores is None:
        return 0
    free = cores // 2 if device.type == "cpu" else cores - 1
    return free // num_processes


def keep_freed_memory(*, huge_blocks: bool = True) -> None:
    """Keep memory that is freed for the next step, where the C library can.

    A training step on the CPU makes and frees the same blobs again and again, and so does the
    augmentation of pictures. The GNU C library hands large blocks back to the system at once, and a
    tenth of the time and more goes into asking for them again, page by page. Nothing happens if
    environment variables set up the allocator, or it is another's.

    Args:
        huge_blocks: keep those of more than 32 MB, too. Where sizes differ, a rare large one would
            be kept for nothing.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_MAX, 0 if huge_blocks else _MANY)


def give_back_freed_memory() -> None:
    """Let the GNU C library return to the system what reading a large file has left behind."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _ids(gpu: str) -> list[int]:
    try:
        ids = [int(word) for word in gpu.split(",")]
    except ValueError:
        raise UsageError(f"takes ids of GPUs separated by ',' or 'all', got {gpu!r}") from None
    if len(set(ids)) != len(ids):
        raise UsageError(f"names a GPU twice: {gpu!r}")
    return ids
