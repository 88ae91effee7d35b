"""Where the host waits for the device: by line, per training iteration and per detection."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_check.nets import TOY, memory_solver
from benchmarks.gpu_check.report import Report, Setting
from benchmarks.nets import dsod300, images
from caffe_ssd.devices import set_up_device
from caffe_ssd.engines.accelerate import accelerate

CALLS = 5


def run(setting: Setting, report: Report) -> None:
    """The section."""
    set_up_device(setting.device, tf32=False)
    solver = memory_solver(TOY, 4, setting.device)
    _count("training iteration", lambda: solver.step(1), setting, report)
    x = images().to(setting.device)
    for engine in ("plain net", "torch"):
        net = dsod300().to(setting.device)
        if engine != "plain net":
            accelerate(net, engine)

        def detect(net: torch.nn.Module = net) -> None:
            with torch.inference_mode():
                net({"data": x})

        _count(f"DSOD300 detection, {engine}", detect, setting, report)


def _count(what: str, thing: Callable[[], object], setting: Setting, report: Report) -> None:
    """A table of the lines that waited, with how often each did per call."""
    for _ in range(3):
        thing()
    setting.synchronize()
    if setting.device.type != "cuda":
        for _ in range(CALLS):
            thing()
        report.note(f"{what}: nothing to count on a CPU")
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(CALLS):
                thing()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines = Counter(
        f"{os.path.relpath(w.filename, Path.cwd())}:{w.lineno}"
        for w in caught
        if "synchroniz" in str(w.message)
    )
    table = report.table(f"Waits per {what}: {lines.total() / CALLS:g}", "line", "times")
    for place, count in lines.most_common(40):
        table.add(place, count / CALLS)
