"""A run's folder around the small detector of tests/scoring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scoring.conftest import house

__all__ = ["house"]

SOLVER = """
net: "test.prototxt" base_lr: 0.01 lr_policy: "multistep" gamma: 0.1 stepvalue: 60
max_iter: 100 snapshot_prefix: "snap/tiny" ap_version: "Integral" random_seed: 7
"""


@pytest.fixture
def run(house: Path) -> Path:
    """Weights, a label map that nobody names, and a results file; it is the working folder."""
    (house / "solver.prototxt").write_text(SOLVER)
    (house / "snap").mkdir()
    (house / "w.caffemodel").rename(house / "snap" / "tiny_iter_100.caffemodel")
    (house / "labels.prototxt").rename(house / "labelmap.prototxt")
    write_results(house / "snap" / "tiny_results.jsonl")
    return house


def write_results(path: Path) -> None:
    """What `caffe train` writes."""
    entries: list[dict[str, object]] = [{"kind": "start", "iteration": 0, "time": 1000.0}]
    for step in range(0, 101, 10):
        rate = 0.01 if step < 60 else 0.001
        now = 1000.0 + step
        loss = None if step == 30 else 5.0 - step / 50
        entries.append({"kind": "train", "iteration": step, "loss": loss, "lr": rate, "time": now})
        if step % 50 == 0:
            entries.append(
                {
                    "kind": "test",
                    "iteration": step,
                    "net": 0,
                    "outputs": {"score": [step / 200]},
                    "class_ap": {"score": {"1": step / 100, "2": 0.0}},
                    "time": now,
                }
            )
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
