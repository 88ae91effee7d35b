"""A local cluster of Ray whose worker is killed on the way finds what one process finds.

Ray is an extra and no development dependency: `pip install 'ray[data]'` for this test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/scale/detect_ray.py"
COUNT, PART_SIZE = 10_000, 250

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
]


def make_pictures(folder: Path) -> None:
    """Small pictures, no two alike."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(COUNT):
        pixels = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (96, 96))
        cv2.imwrite(str(folder / f"{i:05}.jpg"), pixels)


def lines(folder: str) -> list[str]:
    """All results, sorted."""
    files = Path(folder).glob("part-*.jsonl")
    return sorted(line for file in files for line in file.read_text().splitlines())


def test_a_killed_worker_loses_and_doubles_nothing(house: Path) -> None:
    make_pictures(Path("many"))
    flags = ["--model=deploy.prototxt", "--weights=w.caffemodel", "--engine=none"]
    flags += ["--threshold=0.36", f"--part-size={PART_SIZE}", "many"]
    command = [sys.executable, str(SCRIPT), *flags, "--output=two", "--workers=2"]
    processes: list[int] = []
    # Ray's workers stand back by themselves, and on a busy machine for ever.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        for line in run.stdout:
            print(line, end="")
            if match := re.search(r"by process (\d+),", line):
                processes.append(int(match[1]))
                if len(processes) == 4:
                    os.kill(processes[-1], signal.SIGKILL)
    assert run.returncode == 0
    assert len(processes) == COUNT // PART_SIZE
    killed = processes[3]
    assert len(set(processes) - {killed}) >= 2, "another worker should have taken its place"
    alone = [sys.executable, str(SCRIPT), *flags, "--output=one", "--workers=0"]
    subprocess.run(alone, check=True)
    found = lines("two")
    assert len({json.loads(line)["image"] for line in found}) == len(found) == COUNT
    assert found == lines("one")
