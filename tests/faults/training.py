"""A small training that augments, and what its faults are held against."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.blobs import blob_to_array
from lmdb_tools.convert_annoset import main as convert_annoset
from lmdb_tools.shapes import make_shapes
from tests.cli.test_interrupt import NET

END = 60
SOLVER = f"""
train_net: "train.prototxt" base_lr: 0.01 lr_policy: "multistep" stepvalue: 20 gamma: 0.1
momentum: 0.9 weight_decay: 0.0005 max_iter: {END} display: 1 snapshot: 3
snapshot_prefix: "out/model" random_seed: 3 solver_mode: CPU
"""
PROGRAM = "import sys; from caffe_ssd.cli.main import main; sys.exit(main(sys.argv[1:]))"


def make_data(folder: Path) -> None:
    """A database of ten pictures with boxes, in `folder`/train_lmdb."""
    shapes = folder / "shapes"
    make_shapes(str(shapes), num_train=10, num_test=1, size=64, seed=5)
    flags = ["--anno_type=detection", f"--label_map_file={shapes}/labelmap_shapes.prototxt"]
    paths = [f"{shapes}/", f"{shapes}/trainval.txt", str(folder / "train_lmdb")]
    if convert_annoset([*flags, "--encode_type=jpg", "--encoded", *paths]) != 0:
        raise AssertionError("no database")


def prepare(data: Path, folder: Path, solver: str = SOLVER) -> Path:
    """A folder from which the training can be started."""
    (folder / "out").mkdir(parents=True)
    (folder / "train_lmdb").symlink_to(data / "train_lmdb")
    (folder / "train.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(solver)
    return folder


def start(folder: Path, *flags: str, is_piped: bool = False) -> subprocess.Popen[bytes]:
    """Start the training; its log is appended to `folder`/log, through `cat` if it is piped."""
    with ExitStack() as stack:
        log: IO[bytes] | None = stack.enter_context(open(folder / "log", "ab"))
        if is_piped:
            log = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log).stdin
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "train", "--solver=solver.prototxt", *flags],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def log(folder: Path) -> str:
    """What all trainings in this folder said."""
    return (folder / "log").read_text(errors="replace")


def wait_for(text: str, folder: Path, process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait until the log holds a text."""
    deadline = time.monotonic() + limit_s
    while text not in log(folder):
        if process.poll() is not None:
            raise AssertionError(f"the training ended without {text!r}: {log(folder)[-1500:]}")
        if time.monotonic() > deadline:
            raise AssertionError(f"no {text!r} in {limit_s} s")
        time.sleep(0.02)


def weights(folder: Path, iteration: int = END) -> dict[str, bytes]:
    """The weights of a snapshot, bit for bit."""
    message = read_weights(folder / f"out/model_iter_{iteration}.caffemodel")
    return {
        f"{layer.name}/{i}": blob_to_array(blob).tobytes()
        for layer in message.layer
        for i, blob in enumerate(layer.blobs)
    }


def children(process: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == process:
                found.append(int(entry.name))
    return sorted(found)
