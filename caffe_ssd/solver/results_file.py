"""Keeps what a training run displayed and scored as JSON lines, for curves and tables.

One object per line, appended, so that a resumed run goes on in the same file:

    {"kind": "start", "iteration": 0, "classes": {"1": "cat", ...}, "time": 1783156502.1}
    {"kind": "train", "iteration": 100, "loss": 4.71, "lr": 0.001, "time": ...}
    {"kind": "test", "iteration": 1000, "net": 0, "outputs": {"detection_eval": [0.77]},
     "class_ap": {"detection_eval": {"1": 0.81, ...}}, "time": ...}
    {"kind": "best", "iteration": 1000, "score": 0.77, "output": "detection_eval",
     "weights": "models/net_best.caffemodel", "time": ...}

Numbers that JSON does not know (nan, infinities) become null.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.files import read_text
from caffe_ssd.solver.hooks import Observer
from caffe_ssd.solver.testing import TestResult

Entry = Mapping[str, object]


class ResultsFile(Observer):
    """Appends a line whenever the solver displays or scores something.

    Args:
        path: the file; made if it does not exist.
        iteration: where the run starts.
        classes: names of the classes by label.

    Raises:
        FileError: the file cannot be written.
    """

    def __init__(
        self, path: str | Path, iteration: int, classes: Mapping[int, str] | None = None
    ) -> None:
        self._path = path
        _drop_unfinished_line(Path(path))
        self._append("start", iteration, {"classes": dict(classes)} if classes else {})

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        """Keep the displayed loss and rate."""
        self._append("train", iteration, {"loss": loss, "lr": rate})

    def on_test(self, result: TestResult) -> None:
        """Keep a test's outputs and, for detection, the AP per class."""
        content: dict[str, object] = {"net": result.index, "outputs": result.outputs}
        if result.detection:
            content["class_ap"] = {n: dict(s.per_class) for n, s in result.detection.items()}
        self._append("test", result.iteration, content)

    def add_best(self, iteration: int, score: float, output: str, weights: str) -> None:
        """Keep that a test was the best so far, and where its weights are."""
        self._append("best", iteration, {"score": score, "output": output, "weights": weights})

    def _append(self, kind: str, iteration: int, content: dict[str, object]) -> None:
        entry = {"kind": kind, "iteration": iteration, **content, "time": time.time()}
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(entry)) + "\n")
        except OSError as error:
            raise FileError(f"Could not write file {self._path}: {error.strerror}") from error


def results_path(prefix: str) -> str:
    """The results file of a training with this `snapshot_prefix`."""
    return f"{prefix}_results.jsonl"


def read_results(path: str | Path) -> list[Entry]:
    """The entries of a results file; a last line that is not finished is passed over.

    Raises:
        FileError: the file cannot be read.
        DataError: a line is no entry.
    """
    lines = read_text(path).splitlines()
    entries: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or not {"kind", "iteration"} <= entry.keys():
                raise ValueError("no object with kind and iteration")
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: not an entry of a results file: {error}") from error
        entries.append(entry)
    return entries


def earlier_entries(path: str | Path, iteration: int) -> list[Entry]:
    """What the trainings noted that one which starts at `iteration` goes on with.

    Args:
        path: the results file; it need not exist.
        iteration: where the training starts; at 0 it goes on with nothing.

    Returns:
        The entries since the last training that began at iteration 0.

    Raises:
        CaffeError: see `read_results`.
    """
    if iteration == 0 or not Path(path).exists():
        return []
    entries = read_results(path)
    fresh = [i for i, e in enumerate(entries) if e["kind"] == "start" and e["iteration"] == 0]
    return entries[fresh[-1] if fresh else 0 :]


def _drop_unfinished_line(path: Path) -> None:
    """Remove what a crash left of a line, so that the next one does not join it."""
    try:
        with open(path, "r+b") as file:
            data = file.read()
            end = data.rfind(b"\n") + 1
            if end < len(data):
                file.truncate(end)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(f"Could not write file {path}: {error.strerror}") from error


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
