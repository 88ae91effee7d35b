"""Train for a long time with one data worker and see whether a process grows.

`python -m tests.faults.memory [-minutes 23]`; ends 0 if neither the training nor its worker is
larger at the end than after the first minutes, but for what the allocator moves about.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.faults.training import END, SOLVER, children, log, make_data, prepare, start, wait_for

SETTLED_S = 60.0
PAUSE_S = 5.0
SLACK_MB = 2.0


def own_mb(process: int) -> float:
    """Memory that a process holds and does not share, swapped out or not (Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    kinds = ("Private_Clean:", "Private_Dirty:", "Swap:")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) / 1024


def main() -> int:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-minutes", type=float, default=23)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder)
        text = SOLVER.replace(f"max_iter: {END}", "max_iter: 100000000")
        text = text.replace("display: 1", "display: 100").replace("snapshot: 3", "snapshot: 10000")
        prepare(folder, folder / "run", text)
        process = start(folder / "run", "-workers=1")
        try:
            wait_for("Iteration 100, loss", folder / "run", process, 300)
            worker = children(process.pid)[-1]
            begin = time.monotonic()
            samples: list[tuple[float, float]] = []
            while time.monotonic() - begin < 60 * args.minutes:
                time.sleep(PAUSE_S)
                if time.monotonic() - begin > SETTLED_S:
                    samples.append((own_mb(process.pid), own_mb(worker)))
            iterations = log(folder / "run").split("Iteration ")[-1].split(",")[0].split()[0]
        finally:
            process.kill()
            process.wait()
    return report(samples, iterations)


def report(samples: list[tuple[float, float]], iterations: str) -> int:
    """Print how both sizes went; the exit status."""
    tenth = max(1, len(samples) // 10)
    status = 0
    print(f"{iterations} iterations, {len(samples)} samples after the first minute")
    for name, sizes in zip(("training", "worker"), zip(*samples, strict=True), strict=True):
        first, last = median(sizes[:tenth]), median(sizes[-tenth:])
        has_grown = last - first > SLACK_MB
        status |= has_grown
        verdict = "GROWN" if has_grown else "no growth"
        print(f"{name:<10}{first:8.1f} MB -> {last:8.1f} MB, at most {max(sizes):.1f}: {verdict}")
    return status


if __name__ == "__main__":
    sys.exit(main())
