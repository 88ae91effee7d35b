"""The engine on a simulated CUDA device: where tensors lie, and how often the host waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulated_device import build, compiler

ROOT = Path(__file__).parents[2]
PARTS = 6
# The guard must be there before PyTorch looks for devices.
START = """
import ctypes, runpy, sys
ctypes.CDLL(sys.argv[1])
runpy.run_module("tests.device.scenarios", run_name="__main__")
"""

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def guard(pytestconfig: pytest.Config) -> Path:
    return build(Path(pytestconfig.cache.mkdir("simulated_device")))  # type: ignore[union-attr]


def run(guard: Path, *arguments: str, cwd: Path = ROOT) -> Any:
    """What a scenario prints."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", START, str(guard), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_training_iteration_does_not_wait(guard: Path) -> None:
    found = run(guard, "training")
    assert found["losses"]["cuda:0"] == pytest.approx(found["losses"]["cpu"], rel=1e-3)
    assert found["waits"] == {}


def test_the_loss_is_that_of_the_cpu(guard: Path) -> None:
    found = run(guard, "loss_settings")
    assert {settings: gap for settings, gap in found.items() if not gap <= 1e-6} == {}


def test_a_prior_that_cannot_be_coded_is_found_late(guard: Path) -> None:
    at_once, later = run(guard, "bad_priors")
    assert "prior 1 must have positive variances" in at_once
    assert "a prior was needed that cannot be coded" in later
    assert "in an earlier batch" in later


def test_a_detection_waits_twice(guard: Path) -> None:
    found = run(guard, "detection")
    assert found["gap"] == 0
    assert found["waits"] == 2, found["lines"]


def test_labels_that_came_from_the_host_are_not_fetched(guard: Path) -> None:
    found = run(guard, "labels_from_the_host")
    assert found["waits"] == 0
    assert found["equal"]
    assert found["part"] == [0, 1, 2, 3]
    assert found["late"] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(PARTS))
def test_recorded_cases(guard: Path, number: int) -> None:
    found = run(guard, "recorded", str(number), str(PARTS))
    assert found["count"] > 50
    assert found["failed"] == {}
