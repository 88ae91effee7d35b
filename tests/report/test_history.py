"""The course of a training, also of one that was resumed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from caffe_ssd.errors import DataError
from caffe_ssd.report.history import read_history, smoothed
from tests.report.conftest import write_results


def train(iteration: int, loss: float | None, time: float) -> dict[str, object]:
    return {"kind": "train", "iteration": iteration, "loss": loss, "lr": 0.1, "time": time}


def start(iteration: int, time: float) -> dict[str, object]:
    return {"kind": "start", "iteration": iteration, "time": time}


def write(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_everything_in_its_place(tmp_path: Path) -> None:
    write_results(tmp_path / "r.jsonl")
    history = read_history(tmp_path / "r.jsonl")
    assert list(history.iterations) == list(range(0, 101, 10))
    assert math.isnan(history.losses[3])
    assert history.losses[10] == 3.0
    assert history.rates[5:7] == [0.01, 0.001]
    assert [(t.iteration, t.score) for t in history.tests] == [(0, 0), (50, 0.25), (100, 0.5)]
    assert history.tests[1].class_ap == {1: 0.5, 2: 0}
    assert history.best is history.tests[2]
    assert history.is_detection
    assert history.seconds == 100
    assert history.last_iteration == 100


def test_a_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        start(0, 0.0),
        train(10, 4.0, 10.0),
        train(20, 3.0, 20.0),
        train(30, 9.0, 30.0),
        start(20, 1000.0),
        train(25, 2.0, 1005.0),
    )
    history = read_history(path)
    assert list(history.iterations) == [10, 20, 25]
    assert history.losses == [4.0, 3.0, 2.0]
    assert history.seconds == 35


def test_a_new_run_in_the_same_file_begins_anew(tmp_path: Path) -> None:
    old = start(0, 0.0), train(10, 4.0, 10.0)
    history = read_history(write(tmp_path / "r.jsonl", *old, start(0, 50.0), train(5, 3.0, 55.0)))
    assert list(history.iterations) == [5]
    assert history.seconds == 5


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "train", "iteration": 3},
        {"kind": "test", "iteration": 3, "outputs": {}},
        {"kind": "test", "iteration": 3, "outputs": {"a": []}},
        {"kind": "test", "iteration": 3, "outputs": {"a": [1]}, "class_ap": {"a": {"x": 1}}},
    ],
)
def test_strange_entries_are_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    path = write(tmp_path / "r.jsonl", start(0, 1.0), entry, train(9, 1.0, 2.0))
    with pytest.raises(DataError, match=r"r\.jsonl: not a results file"):
        read_history(path)


def test_smoothing_is_a_mean_of_neighbours() -> None:
    values = [1.0, 5.0, math.nan, 3.0, 8.0]
    table = np.array(values)
    for window in (1, 3, 4, 9):
        parts = [table[max(0, i - window // 2) : i + window // 2 + 1] for i in range(len(values))]
        wanted = [part[~np.isnan(part)].mean() if window > 1 else part[0] for part in parts]
        assert smoothed(values, window) == pytest.approx(wanted, nan_ok=True)
