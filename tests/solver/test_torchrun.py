"""`torchrun`: lost processes, lost machines and restarts change nothing of what is learnt.

The first test belongs to every change; the others take their time. docs/machines.md promises what
they hold.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.faults.training import log, make_data, wait_for, weights
from tests.solver.torchrun import (
    ITERATIONS,
    LIMIT_S,
    end_all,
    finish,
    kill_node,
    prepare_run,
    ranks,
    start_torchrun,
)

if not sys.platform.startswith("linux"):
    pytest.skip("looks for processes in /proc", allow_module_level=True)

Blobs = dict[str, bytes]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun")
    make_data(folder)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(data: Path) -> Callable[[int], Blobs]:
    """The weights of a training in so many processes that nothing happened to."""

    @cache
    def train(count: int) -> Blobs:
        folder = prepare_run(data, data / f"whole{count}")
        finish(start_torchrun(folder, ["--standalone", f"--nproc-per-node={count}"]), folder)
        return weights(folder, ITERATIONS)

    return train


def test_a_killed_process_is_started_again(data, tmp_path, uninterrupted) -> None:
    folder = prepare_run(data, tmp_path / "run")
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    agent = start_torchrun(folder, options)
    wait_for("Iteration 8, loss", folder, agent, LIMIT_S)
    os.kill(ranks(agent)[1], signal.SIGKILL)
    finish(agent, folder)
    assert "Resuming from out/model_iter_" in log(folder)
    assert weights(folder, ITERATIONS) == uninterrupted(2)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 3])
def test_four_processes_and_a_restart_by_hand(data, tmp_path, uninterrupted, killed) -> None:
    folder = prepare_run(data, tmp_path / "run")
    options = ["--standalone", "--nproc-per-node=4"]
    agent = start_torchrun(folder, options)
    wait_for("Iteration 8, loss", folder, agent, LIMIT_S)
    os.kill(ranks(agent)[killed], signal.SIGKILL)
    assert agent.wait(LIMIT_S) == 1
    assert not (folder / f"out/model_iter_{ITERATIONS}.caffemodel").exists()
    finish(start_torchrun(folder, options), folder)
    assert "Resuming from out/model_iter_" in log(folder)
    assert weights(folder, ITERATIONS) == uninterrupted(4)


@pytest.mark.slow
def test_the_polite_way_out_saves_the_last_iteration(data, tmp_path, uninterrupted) -> None:
    """Every process is told, data workers too, as schedulers do."""
    folder = prepare_run(data, tmp_path / "run")
    options = ["--standalone", "--nproc-per-node=2"]
    agent = start_torchrun(folder, options, "-workers=1")
    wait_for("Iteration 7, loss", folder, agent, LIMIT_S)
    for process in [agent.pid, *ranks(agent).values()]:
        os.kill(process, signal.SIGTERM)
    assert agent.wait(LIMIT_S) == 1  # torchrun's own word for a signal
    assert "Optimization stopped early" in log(folder)
    assert "ended unexpectedly" not in log(folder)
    finish(start_torchrun(folder, options, "-workers=1"), folder)
    assert weights(folder, ITERATIONS) == uninterrupted(2)


@pytest.mark.slow
def test_two_machines_of_which_one_is_lost_and_comes_back(data, tmp_path, uninterrupted) -> None:
    folder = prepare_run(data, tmp_path / "run")
    port = _free_port()

    def start(node: int) -> subprocess.Popen[bytes]:
        return start_torchrun(
            folder,
            [
                *("--nnodes=2", "--nproc-per-node=1", "--max-restarts=3"),
                *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=test"),
                # Both addresses are this machine's, and either node could be the meeting place.
                *(f"--local-addr=127.0.0.{node}", f"--rdzv-conf=is_host={node % 2}"),
            ],
            is_shared=False,
        )

    first = start(1)
    second = start(2)
    wait_for("Iteration 8, loss", folder, first, LIMIT_S)
    kill_node(second)
    wait_for("does not answer", folder, first, LIMIT_S)
    second = start(2)
    finish(first, folder)
    finish(second, folder)
    assert "Resuming from out/model_iter_" in log(folder)
    assert weights(folder, ITERATIONS) == uninterrupted(2)


@pytest.mark.slow
def test_a_full_disk_ends_all_and_leaves_the_snapshot_before(data, tmp_path, uninterrupted) -> None:
    folder = prepare_run(data, tmp_path / "run")
    options = ["--standalone", "--nproc-per-node=2"]
    with open(folder / "log", "ab") as file:
        logger = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
    with logger, logger.stdin as pipe:
        agent = start_torchrun(folder, options, pipe=pipe)
        wait_for("Iteration 4, loss", folder, agent, LIMIT_S)
        size = (folder / "out/model_iter_3.caffemodel").stat().st_size
        # Longer files cannot be written, as on a full disk (EFBIG rather than ENOSPC).
        resource.prlimit(ranks(agent)[0], resource.RLIMIT_FSIZE, (size // 2, size // 2))
        assert agent.wait(LIMIT_S) == 1
    assert "caffe: Could not write file out/model_iter_" in log(folder)
    left = [path.name for path in (folder / "out").iterdir() if ".tmp" in path.name]
    assert not left
    finish(start_torchrun(folder, options), folder)
    assert weights(folder, ITERATIONS) == uninterrupted(2)


@pytest.mark.slow
def test_torchrun_starts_the_processes_and_nobody_else(data, tmp_path) -> None:
    folder = prepare_run(data, tmp_path / "run")
    agent = start_torchrun(folder, ["--standalone", "--nproc-per-node=2"], "-cpu_processes=2")
    assert agent.wait(LIMIT_S) == 1
    assert "caffe: -cpu_processes starts processes, but torchrun does so already" in log(folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
