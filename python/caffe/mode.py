"""Where nets run: `set_mode_cpu`, `set_mode_gpu`, `set_device`, and the process's random stream.

Spec: caffe-net.md section 13; caffe-solver.md section 10. Each thread has its own mode.
"""

from __future__ import annotations

import logging
import threading

import torch

from caffe_ssd.devices import allow_tf32
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.random import CaffeRandom

_LOG = logging.getLogger(__name__)


class _Mode(threading.local):
    """The calling thread's mode, device and random stream."""

    gpu = False
    device_id = 0

    def __init__(self) -> None:
        self.rng = CaffeRandom()


_mode = _Mode()
_said = threading.Event()
_is_exact = threading.Event()


def set_mode_cpu() -> None:
    """Build and run nets on the CPU from now on."""
    _mode.gpu = False


def set_mode_gpu() -> None:
    """Build nets on the CUDA device from now on; without one on the CPU, which is said once."""
    _mode.gpu = True


def set_device(device_id: int) -> None:
    """Choose the CUDA device that `set_mode_gpu` means.

    Raises:
        UsageError: CUDA devices exist, but none with this number.
    """
    if torch.cuda.is_available() and not 0 <= device_id < torch.cuda.device_count():
        raise UsageError(f"no CUDA device {device_id}: there are {torch.cuda.device_count()}")
    _mode.device_id = device_id


def set_random_seed(seed: int) -> None:
    """Seed everything random that is built afterwards.

    Dropout and stochastic pooling on a CUDA device draw from PyTorch's generators, which are seeded
    too; all threads share those.
    """
    _mode.rng.seed(seed)
    torch.manual_seed(seed % (1 << 32))


def current_device() -> torch.device:
    """The device of nets built now."""
    if not _mode.gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if not _said.is_set():
            _said.set()
            _LOG.warning("no CUDA device is present: running on the CPU")
        return torch.device("cpu")
    if not _is_exact.is_set():  # once: a script may choose otherwise afterwards
        _is_exact.set()
        allow_tf32(False)
    return torch.device("cuda", _mode.device_id)


def current_runtime() -> Runtime:
    """What nets built now draw from."""
    return Runtime(rng=_mode.rng)
