"""`caffe device_query`: what the GPUs are.

Spec: caffe-net.md section 19.
"""

from __future__ import annotations

import torch

from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.devices import choose_devices
from caffe_ssd.cli.flags import FlagParser

DESCRIPTION = "Show what the GPUs are."
EXAMPLES = """\
  caffe device_query
  caffe device_query -gpu 0,1"""

_GIB = 1024**3


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    set_up_logging()
    parser = FlagParser("device_query", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("gpu")
    args = parser.parse_flags(arguments)
    if not torch.cuda.is_available():
        print("There is no CUDA device.")
        return 0
    for device in choose_devices(args.gpu if args.gpu else "all"):
        _describe(device)
    return 0


def _describe(device: torch.device) -> None:
    properties = torch.cuda.get_device_properties(device)
    rows = {
        "Device id": device.index,
        "Name": properties.name,
        "Compute capability": f"{properties.major}.{properties.minor}",
        "Total global memory": f"{properties.total_memory / _GIB:.1f} GiB",
        "Multiprocessors": properties.multi_processor_count,
        "CUDA of PyTorch": torch.version.cuda,
    }
    for name, value in rows.items():
        print(f"{name + ':':<22}{value}")
