"""Keeps what a training run displayed and scored as JSON lines, for curves and tables.

One object per line, appended, so that a resumed run goes on in the same file:

    {"kind": "start", "iteration": 0, "time": 1783156502.1}
    {"kind": "train", "iteration": 100, "loss": 4.71, "lr": 0.001, "time": ...}
    {"kind": "test", "iteration": 1000, "net": 0, "outputs": {"detection_eval": [0.77]},
     "class_ap": {"detection_eval": {"1": 0.81, ...}}, "time": ...}

Numbers that JSON does not know (nan, infinities) become null.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from caffe_ssd.errors import FileError
from caffe_ssd.solver.hooks import Observer
from caffe_ssd.solver.testing import TestResult


class ResultsFile(Observer):
    """Appends a line whenever the solver displays or scores something.

    Args:
        path: the file; made if it does not exist.
        iteration: where the run starts.

    Raises:
        FileError: the file cannot be written.
    """

    def __init__(self, path: str | Path, iteration: int) -> None:
        self._path = path
        self._append("start", iteration, {})

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        """Keep the displayed loss and rate."""
        self._append("train", iteration, {"loss": loss, "lr": rate})

    def on_test(self, result: TestResult) -> None:
        """Keep a test's outputs and, for detection, the AP per class."""
        content: dict[str, object] = {"net": result.index, "outputs": result.outputs}
        if result.detection:
            content["class_ap"] = {n: dict(s.per_class) for n, s in result.detection.items()}
        self._append("test", result.iteration, content)

    def _append(self, kind: str, iteration: int, content: dict[str, object]) -> None:
        entry = {"kind": kind, "iteration": iteration, **content, "time": time.time()}
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(_finite(entry)) + "\n")
        except OSError as error:
            raise FileError(f"Could not write file {self._path}: {error.strerror}") from error


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
