"""Peak memory: DSOD300 on one picture, and one training iteration with and without checkpoints.

example: python -m benchmarks.memory

Each figure is measured in a process of its own: the largest resident size, less what the process
had with the libraries imported and, where it says so, less the weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 2**20
BATCH = 4


def peak() -> float:
    """Largest resident size of this process so far, MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1024


def current() -> float:
    """Resident size of this process, MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return int(line.split()[1]) / 1024


def detection(engine: str) -> float:
    """One picture through the deploy net; above the weights and the imported libraries."""
    from benchmarks.nets import dsod300, images
    from caffe_ssd.engines.accelerate import accelerate

    if engine in ("onnxruntime", "openvino"):
        __import__(engine)
    x = images()
    torch.conv2d(x, torch.ones(1, 3, 3, 3))  # the library's own threads and buffers
    before = current()
    net = dsod300()
    weights = sum(blob.numel() * blob.element_size() for blob in net.parameters()) / MEGABYTE
    if engine != "none":
        accelerate(net, engine)
    with torch.inference_mode():
        for _ in range(3):
            net({"data": x})
    return peak() - before - weights


def training(checkpoint: str) -> float:
    """Two iterations at batch 4; above the imported libraries, with weights and updates."""
    from benchmarks.training import Setting, make_solver
    from caffe_ssd.devices import keep_freed_memory

    keep_freed_memory()
    before = current()
    solver = make_solver(Setting(batch=BATCH))
    if checkpoint == "checkpoint":
        solver.net.use_checkpoints()
    solver.step(2)
    return peak() - before


FIGURES = {
    "detection, plain net": ("detection", "none"),
    "detection, engine torch": ("detection", "torch"),
    "detection, engine onnxruntime": ("detection", "onnxruntime"),
    "detection, engine openvino": ("detection", "openvino"),
    f"training, batch {BATCH}": ("training", "plain"),
    f"training, batch {BATCH}, -checkpoint": ("training", "checkpoint"),
}


def table() -> str:
    """The figures as markdown."""
    lines = ["| DSOD300 | peak MB |", "|---|---|"]
    for name, words in FIGURES.items():
        command = [sys.executable, "-m", "benchmarks.memory", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lines.append(f"| {name} | {float(done.stdout):.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark, or measure one figure; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure", nargs="*", help="(all)")
    args = parser.parse_args()
    if args.figure:
        print({"detection": detection, "training": training}[args.figure[0]](args.figure[1]))
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
