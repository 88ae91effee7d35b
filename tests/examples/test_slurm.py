"""The Slurm file, run with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.docs.running import understand

FILE = Path(__file__).resolve().parents[2] / "examples/scale/train.slurm"


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    for name, text in (("srun", 'echo "$OMP_NUM_THREADS" "$@"'), ("scontrol", "echo n1; echo n2")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    command = ["sh", str(FILE), *words]
    environment |= {"PATH": path, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_it_starts_one_agent_per_machine(tmp_path: Path) -> None:
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    machine = {"SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "16"}
    done = run(tmp_path, "my solver.prototxt", "-sync-bn", **job, **machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 --kill-on-bad-exit=1 torchrun --nnodes=2 --nproc-per-node=4 ")
    assert "--rdzv-endpoint=n1:29400 --rdzv-id=77-0 " in done.stdout
    assert done.stdout.endswith("-solver my solver.prototxt -snapshot auto -sync-bn\n")
    words = shlex.split(done.stdout.replace("my solver", "solver"))
    understand(["caffe", *words[words.index("caffe_ssd") + 1 :]])


def test_it_says_what_it_needs(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch train.slurm SOLVER")
