"""A script that started a job hands signals on: the snapshot is written and the log complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_resume import NET

SOLVER = """
net: "net.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 10000000 display: 10
snapshot_prefix: "s" random_seed: 1 solver_mode: CPU
"""
SCRIPT = "import sys; from caffe.models.job import run_job; sys.exit(run_job('job.sh'))"


@pytest.fixture(params=["--log=log", "2>&1 | tee log"])  # ours, and one for an original build
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    caffe = f"{sys.executable} -m caffe_ssd.cli.main"
    text = f"cd {tmp_path}\n{caffe} train \\\n--solver=solver.prototxt \\\n{request.param}\n"
    (tmp_path / "job.sh").write_text(text)
    return tmp_path


def wait_for(text: str, log: Path) -> None:
    deadline = time.monotonic() + 200
    while not log.exists() or text not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_job_ends_with_a_snapshot_and_its_log(job: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(
        command, cwd=job, stdout=subprocess.DEVNULL, env=os.environ, start_new_session=True
    )
    wait_for("Iteration 10, loss", job / "log")
    os.killpg(process.pid, number)  # as a terminal does
    assert process.wait(timeout=200) == 0
    log = (job / "log").read_text()
    assert "Optimization stopped early." in log
    assert log.rstrip().endswith("Optimization Done.")
    assert len(list(job.glob("*.solverstate"))) == 1


def test_a_second_signal_ends_the_job_at_once(job: Path) -> None:
    (job / "solver.prototxt").write_text(SOLVER.replace('"s"', '"s" snapshot_after_train: false'))
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(
        command, cwd=job, stdout=subprocess.DEVNULL, env=os.environ, start_new_session=True
    )
    wait_for("Iteration 10, loss", job / "log")
    pid = int((job / ".s.lock").read_text().split()[1])
    os.kill(pid, signal.SIGSTOP)  # it hangs
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=200) != 0
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process still does something; one that nobody has fetched yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
