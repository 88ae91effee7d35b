"""What the machine can do, as far as a plan depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from caffe_ssd.devices import has_bfloat16


@dataclass(frozen=True)
class Machine:
    """Where a net is trained.

    Args:
        device: the device.
        cores: threads that PyTorch uses on the CPU.
        has_bfloat16: whether the device computes in bfloat16 faster than in float32.
    """

    device: torch.device
    cores: int
    has_bfloat16: bool

    @property
    def is_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def __str__(self) -> str:
        if self.is_cuda:
            return torch.cuda.get_device_name(self.device)
        return f"{self.cores} CPU core" + ("s" if self.cores != 1 else "")


def machine_of(device: torch.device) -> Machine:
    """Describe a device."""
    return Machine(device, torch.get_num_threads(), has_bfloat16(device))
