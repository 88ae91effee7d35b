"""Whether the same seed gives the same training: CPU and device, twice, and after a resume."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.gpu_check.nets import TOY, MemorySolver, memory_solver
from benchmarks.gpu_check.report import Report, Setting, Table
from caffe_ssd.devices import set_up_device

BATCH = 16


def run(setting: Setting, report: Report) -> None:
    """The section."""
    set_up_device(setting.device, tf32=False)
    _beside_the_cpu(setting, report)
    table = report.table(
        "Same seed, same training?", "what", "losses", "first that differs", "weights bit-equal"
    )
    _twice_and_resumed(setting, table, "default")
    with _deterministic(report):
        _twice_and_resumed(setting, table, "deterministic")
        if setting.device.type == "cuda":
            _captured(setting, table)


def _beside_the_cpu(setting: Setting, report: Report) -> None:
    count = 3 if setting.tiny else 10
    table = report.table(
        "Losses beside the CPU's", "iteration", "CPU", "device", "relative difference"
    )
    solvers = [memory_solver(TOY, BATCH, device) for device in ("cpu", setting.device)]
    for solver in solvers:
        solver.step(count)
    pairs = zip(*(solver.listed_losses() for solver in solvers), strict=True)
    for i, (cpu, device) in enumerate(pairs):
        table.add(i, cpu, device, f"{abs(device / cpu - 1):.1e}")


def _twice_and_resumed(setting: Setting, table: Table, mode: str) -> None:
    count = 4 if setting.tiny else 20 if setting.quick else 40
    first, second = (memory_solver(TOY, BATCH, setting.device) for _ in range(2))
    for solver in (first, second):
        solver.step(count)
    _compare(table, f"{mode}: twice", first, second)
    prefix = str(setting.work / mode)
    stopped = memory_solver(TOY, BATCH, setting.device, prefix=prefix)
    stopped.step(count // 2)
    _, state = stopped.snapshot()
    resumed = memory_solver(TOY, BATCH, setting.device, prefix=prefix)
    resumed.restore(state)
    resumed.losses = list(stopped.losses)
    resumed.step(count - count // 2)
    _compare(table, f"{mode}: resumed half-way", first, resumed)


def _captured(setting: Setting, table: Table) -> None:
    """Beside a training whose passes are replayed."""
    plain, captured = (memory_solver(TOY, BATCH, setting.device) for _ in range(2))
    captured.use_cuda_graph()
    for solver in (plain, captured):
        solver.step(20)
    _compare(table, "deterministic: with -cuda_graph", plain, captured)


def _compare(table: Table, what: str, a: MemorySolver, b: MemorySolver) -> None:
    one, other = a.listed_losses(), b.listed_losses()
    differ = [i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y]
    blobs = zip(a.net.parameters(), b.net.parameters(), strict=True)
    equal = all(torch.equal(x, y) for x, y in blobs)
    table.add(what, len(one), differ[0] if differ else "none", str(equal))


@contextmanager
def _deterministic(report: Report) -> Iterator[None]:
    """PyTorch's deterministic kernels; notes which operations have none."""
    benchmark = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in sorted({str(warning.message).split(". ")[0] for warning in caught}):
        report.note(f"warning: {text[:300]}")
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark
