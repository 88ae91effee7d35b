"""The course of a training, from the JSON lines that `caffe train` writes beside its snapshots.

Entries of a run that was resumed from an earlier snapshot replace those that it repeats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_ssd.errors import DataError
from caffe_ssd.solver.results_file import read_results


@dataclass(frozen=True, kw_only=True)
class Test:
    """One test.

    Args:
        iteration: after so many updates.
        score: mAP, or the first number of the first output.
        name: of that output.
        class_ap: AP by label; empty for nets that judge no detections.
    """

    iteration: int
    score: float
    name: str
    class_ap: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class History:
    """A training.

    Args:
        iterations, losses, rates: what was displayed.
        tests: of the first test net.
        seconds: that it ran, without pauses between resumed runs.
    """

    iterations: Sequence[int]
    losses: Sequence[float]
    rates: Sequence[float]
    tests: Sequence[Test]
    seconds: float

    @property
    def last_iteration(self) -> int:
        """The last one that is known of."""
        return max([*self.iterations, *(test.iteration for test in self.tests)], default=0)

    @property
    def is_detection(self) -> bool:
        """Whether the tests' scores are mAP."""
        return any(test.class_ap for test in self.tests)

    @property
    def best(self) -> Test | None:
        """The test with the best score."""
        known = [test for test in self.tests if math.isfinite(test.score)]
        return max(known, key=lambda test: test.score, default=None)


def read_history(path: Path) -> History:
    """Read the course of a training.

    Raises:
        FileError: the file cannot be read.
        DataError: an entry lacks something.
    """
    entries: list[Mapping[str, Any]] = list(read_results(path))
    train: dict[int, Mapping[str, Any]] = {}
    tests: dict[int, Test] = {}
    try:
        for entry in entries:
            if entry["kind"] == "start":
                start = int(entry["iteration"])
                train = {k: each for k, each in train.items() if start > 0 and k <= start}
                tests = {k: each for k, each in tests.items() if start > 0 and k <= start}
            elif entry["kind"] == "train":
                train[int(entry["iteration"])] = entry
            elif entry["kind"] == "test" and entry.get("net", 0) == 0:
                tests[int(entry["iteration"])] = _test(entry)
        ordered = [train[k] for k in sorted(train)]
        return History(
            iterations=sorted(train),
            losses=[_number(each["loss"]) for each in ordered],
            rates=[_number(each["lr"]) for each in ordered],
            tests=[tests[k] for k in sorted(tests)],
            seconds=_seconds(entries),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(
            f"{path}: not a results file of caffe train: {type(error).__name__} {error}"
        ) from error


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Means over the values around each one; those that are not finite are left out."""
    table = np.array(values, np.float64)
    known = np.isfinite(table)
    sums = np.append(0, np.cumsum(np.where(known, table, 0)))
    counts = np.append(0, np.cumsum(known))
    places = np.arange(len(table))
    low = np.maximum(places - window // 2, 0)
    high = np.minimum(places + window // 2 + 1, len(table))
    num = counts[high] - counts[low]
    means = np.divide(sums[high] - sums[low], num, out=np.full(len(table), np.nan), where=num > 0)
    return [float(mean) for mean in means]


def _test(entry: Mapping[str, Any]) -> Test:
    name, values = next(iter(entry["outputs"].items()), ("", []))
    class_ap: Mapping[str, Any] = next(iter(entry.get("class_ap", {}).values()), {})
    return Test(
        iteration=int(entry["iteration"]),
        score=_number(values[0]),
        name=str(name),
        class_ap={int(label): _number(value) for label, value in class_ap.items()},
    )


def _number(value: Any) -> float:
    """JSON has no nan: null stands for it."""
    return math.nan if value is None else float(value)


def _seconds(entries: Sequence[Mapping[str, Any]]) -> float:
    total, last = 0.0, math.nan
    for entry in entries:
        now = _number(entry.get("time"))
        if entry["kind"] == "start":
            total = 0.0 if entry["iteration"] == 0 else total
        elif now > last:
            total += now - last
        last = now
    return total
