"""What the machine is, and its two ceilings: bytes moved and products computed per second."""

from __future__ import annotations

import importlib
import os
import platform

import torch

from benchmarks.gpu_check.clock import median_seconds
from benchmarks.gpu_check.report import Report, Setting
from caffe_ssd.devices import allow_tf32

LIBRARIES = ("torch", "numpy", "cv2", "lmdb", "h5py", "google.protobuf", "triton")


def run(setting: Setting, report: Report) -> None:
    """The section."""
    table = report.table("Machine", "what", "value")
    table.add("Python", platform.python_version())
    for name in LIBRARIES:
        try:
            table.add(name, str(importlib.import_module(name).__version__))
        except Exception as error:
            table.add(name, f"{type(error).__name__}: {error}")
    table.add("cores", os.cpu_count() or 0)
    if setting.device.type == "cuda":
        facts = torch.cuda.get_device_properties(0)
        table.add("device", facts.name)
        table.add("CUDA, cuDNN", f"{torch.version.cuda}, {torch.backends.cudnn.version()}")
        table.add("multiprocessors", facts.multi_processor_count)
        table.add("memory, GB", facts.total_memory / 2**30)
    _ceilings(setting, report)


def _ceilings(setting: Setting, report: Report) -> None:
    table = report.table("Ceilings", "what", "value")
    size = 1 << (22 if setting.tiny else 30)
    source = torch.empty(size, dtype=torch.uint8, device=setting.device).random_(0, 255)
    target = torch.empty_like(source)
    seconds = median_seconds(lambda: target.copy_(source), setting, rounds=10)
    table.add("copy, GB/s read and written", 2 * size / seconds / 1e9)
    host = torch.empty(size >> 4, dtype=torch.uint8, pin_memory=setting.device.type == "cuda")
    seconds = median_seconds(lambda: target[: len(host)].copy_(host), setting, rounds=10)
    table.add("pinned host to device, GB/s", len(host) / seconds / 1e9)
    side = 256 if setting.tiny else 8192
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        allow_tf32(tf32)
        a, b = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
        seconds = median_seconds(lambda a=a, b=b: a @ b, setting, rounds=5)
        table.add(f"product of {side} x {side}, {name}, TFLOP/s", 2 * side**3 / seconds / 1e12)
