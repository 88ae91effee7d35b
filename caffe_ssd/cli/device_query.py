"""`caffe device_query`: what the GPUs are.

Spec: caffe-net.md section 19.
"""

from __future__ import annotations

import torch

from caffe_ssd import devices
from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.desk.console import show
from caffe_ssd.desk.flags import about_flag

DESCRIPTION = "Show what the GPUs are."
EXAMPLES = """\
  caffe device_query
  caffe device_query -gpu 0,1"""

_GIB = 1024**3


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    parser = ActionParser("device_query", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags(gpu="ids of the GPUs to show, separated by ',' (all)")
    args = parser.parse_action(arguments)
    if not torch.cuda.is_available():
        show("There is no CUDA device.")
        return 0
    with about_flag("gpu"):
        chosen = devices.choose_devices(args.gpu if args.gpu else "all")
    for device in chosen:
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
        show(f"{name + ':':<22}{value}")
