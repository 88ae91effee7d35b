"""Checks this package on a CUDA device: recorded cases, repeatability, the demo, speed, memory.

example: python -m benchmarks.gpu_check --quick --out gpu_check
         python -m benchmarks.gpu_check --device cpu --quick      (a try with tiny sizes)

Each section runs in a process of its own, so that a kernel that fails or hangs spoils no other.
Everything found is appended to OUT/report.md and OUT/report.jsonl at once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_check import (
    demo,
    detection,
    loading,
    machine,
    recorded,
    repeatable,
    synchronisations,
    training,
)
from benchmarks.gpu_check.report import Report, Setting

# By name: the section, and the seconds it may take, in full and quick.
SECTIONS: dict[str, tuple[Callable[[Setting, Report], None], int, int]] = {
    "machine": (machine.run, 40, 20),
    "recorded": (recorded.run, 90, 50),
    "repeatable": (repeatable.run, 60, 35),
    "synchronisations": (synchronisations.run, 40, 25),
    "training": (training.run, 150, 110),
    "detection": (detection.run, 150, 50),
    "demo": (demo.run, 150, 70),
    "loading": (loading.run, 60, 30),
}
GRACE = 15  # seconds beyond its time after which a section is ended


def main() -> int:
    """Run the sections; returns the exit status, 1 if one failed."""
    args = _parse()
    args.out.mkdir(parents=True, exist_ok=True)
    report = Report(args.out)
    report.note(f"# python -m benchmarks.gpu_check {' '.join(sys.argv[1:])}")
    end = time.monotonic() + args.limit
    failed = []
    for name in args.sections:
        run, *seconds = SECTIONS[name]
        allowed = min(seconds[args.quick] * args.stretch, end - time.monotonic())
        if allowed < 5:
            report.note(f"section {name}: left out, the time is used up")
            continue
        if not _run_apart(name, run, args, report, allowed):
            failed.append(name)
    report.note(f"sections that failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0", help="cpu for a try (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), metavar="DIR")
    parser.add_argument("--limit", type=float, default=570, help="seconds for all (%(default)s)")
    parser.add_argument(
        "--stretch", type=float, default=1.0, help="times each section's time (%(default)s)"
    )
    parser.add_argument(
        "--sections",
        type=lambda text: text.split(","),
        default=list(SECTIONS),
        metavar="A,B",
        help=f"some of {','.join(SECTIONS)}",
    )
    args = parser.parse_args()
    if unknown := [name for name in args.sections if name not in SECTIONS]:
        parser.error(f"no section {unknown[0]!r}; there are: {', '.join(SECTIONS)}")
    return args


def _run_apart(
    name: str,
    run: Callable[[Setting, Report], None],
    args: argparse.Namespace,
    report: Report,
    allowed: float,
) -> bool:
    """Run a section in a forked process; whether it went through."""
    start = time.monotonic()
    # Forked rather than spawned: the libraries are imported once, and no device is in use here.
    process = multiprocessing.get_context("fork").Process(
        target=_section, args=(name, run, args, report, start + allowed)
    )
    process.start()
    process.join(allowed + GRACE)
    if process.is_alive():
        report.note(f"**{name} FAILED**: ended after {allowed + GRACE:.0f} s")
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        return False
    if process.exitcode:
        report.note(f"**{name} FAILED**: exit status {process.exitcode}")
    report.note(f"section {name}: {time.monotonic() - start:.1f} s")
    return process.exitcode == 0


def _section(
    name: str,
    run: Callable[[Setting, Report], None],
    args: argparse.Namespace,
    report: Report,
    deadline: float,
) -> None:
    os.setsid()  # so that everything it starts can be ended with it
    report.heading(name)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            device=torch.device(args.device),
            quick=args.quick,
            tiny=args.device == "cpu",
            work=Path(folder),
            deadline=deadline,
        )
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        try:
            run(setting, report)
        except Exception:
            report.failure(name)
            sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
