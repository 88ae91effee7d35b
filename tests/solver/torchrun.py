"""Trainings that `torchrun` starts, and their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests.faults.training import SOLVER, children, log, prepare

ITERATIONS = 40
LIMIT_S = 600.0  # a busy machine is no fault

_started: list[subprocess.Popen[bytes]] = []


def prepare_run(data: Path, folder: Path) -> Path:
    """A folder from which the training can be started; `data` is that of `make_data`."""
    return prepare(data, folder, SOLVER.replace("max_iter: 60", f"max_iter: {ITERATIONS}"))


def start_torchrun(
    folder: Path,
    options: Sequence[str],
    *flags: str,
    pipe: IO[bytes] | None = None,
    is_shared: bool = True,
) -> subprocess.Popen[bytes]:
    """Start an agent with its processes; the log of all is appended to `folder`/log.

    Args:
        folder: see `prepare_run`.
        options: of torchrun.
        flags: of `caffe train`.
        pipe: takes the log in place of the file.
        is_shared: whether the processes meet in the agents' store.
    """
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "caffe_ssd", "train"]
    command += ["-solver=solver.prototxt", "-snapshot=auto", "-peer_timeout=60", *flags]
    environment = {name: text for name, text in os.environ.items() if name != "RANK"}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    if not is_shared:  # see docs/machines.md
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with open(folder / "log", "ab") as file:
        out = file if pipe is None else pipe
        agent = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=environment)
    _started.append(agent)
    return agent


def ranks(agent: subprocess.Popen[bytes]) -> dict[int, int]:
    """The processes that an agent has started, by rank (Linux)."""
    found = {}
    for process in children(agent.pid):
        try:
            words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        found |= {int(word[5:]): process for word in words if word.startswith(b"RANK=")}
    return found


def finish(agent: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the training's orderly end."""
    assert agent.wait(LIMIT_S) == 0, log(folder)[-3000:]


def end_all() -> None:
    """End what a failed test has left."""
    while _started:
        agent = _started.pop()
        if agent.poll() is None:
            kill_node(agent)


def kill_node(agent: subprocess.Popen[bytes]) -> None:
    """What a power cut does to one machine."""
    processes = list(ranks(agent).values())
    agent.kill()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    agent.wait(LIMIT_S)
