"""Reads the log of a training, of this Caffe or the original: losses, rates, outputs by iteration.

Spec: caffe-net.md section 20. `caffe_ssd/log.py` writes these lines.
"""

from __future__ import annotations

import math
import re
from calendar import isleap
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from caffe_ssd.errors import DataError
from caffe_ssd.files import read_text

ITERATION, SECONDS, RATE = "NumIters", "Seconds", "LearningRate"

Row = dict[str, float]
"""ITERATION, SECONDS, RATE and what was logged, by name."""

_PREFIX = re.compile(r"[IWEF](\d{4})?(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d{6}) +\d+ \S+\] (.*)")
_LEAP_DAY = re.compile(r"^[IWEF]0229 ", re.MULTILINE)
_ITERATION = re.compile(r"Iteration (\d+)")
_LOSS = re.compile(r"Iteration \d+(?: \(.*\))?, loss = (\S+)")
_RATE = re.compile(r"Iteration \d+, lr = (\S+)")
_OUTPUT = re.compile(r"\s*(Train|Test) net output #(\d+): (\S+) = (\S+)")


@dataclass
class TrainingLog:
    """What a log says, each in the order of its lines.

    Attributes:
        train: a row for each display of the training net's outputs.
        test: a row for each test of a net.
        losses: a row for each smoothed loss, as `loss`.
        rates: a row for each learning rate.
    """

    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    losses: list[Row] = field(default_factory=list)
    rates: list[Row] = field(default_factory=list)


def read_training_log(path: str) -> TrainingLog:
    """Read a log; lines that are none of Caffe's are passed over.

    Seconds count from the line `Solving ...`, or from the first line if there is none. A row has
    the learning rate that was logged last.
    Quirk: Caffe logs an iteration's rate after its outputs, so their row has the rate before; the
    first row of each kind has that of the second.

    Raises:
        FileError: the file cannot be read.
        DataError: it holds no line of a training, or one that cannot be read.
    """
    text = read_text(path, errors="replace")
    clock = _Clock(_year(path, text))
    log, iteration, rate = TrainingLog(), -1.0, math.nan
    for number, line in enumerate(text.splitlines(), 1):
        prefix = _PREFIX.match(line)
        if prefix is None:
            continue
        try:
            seconds = clock.seconds(prefix)
            found = _ITERATION.match(prefix[5])
            iteration = float(found[1]) if found else iteration
            _take(log, prefix[5], {ITERATION: iteration, SECONDS: seconds, RATE: rate})
            rate = log.rates[-1][RATE] if log.rates else rate
        except ValueError as error:
            raise DataError(f"{path}:{number}: cannot be read: {error}") from error
    if not (log.train or log.test or log.losses):
        raise DataError(f"{path}: no line of a training in it, such as 'Iteration 0, loss = 1'")
    for rows in (log.train, log.test):
        if len(rows) > 1:
            rows[0][RATE] = rows[1][RATE]
    return log


def _take(log: TrainingLog, text: str, row: Row) -> None:
    """Add what a line says."""
    if rate := _RATE.match(text):
        log.rates.append({**row, RATE: float(rate[1])})
    elif loss := _LOSS.match(text):
        log.losses.append({**row, "loss": float(loss[1])})
    elif output := _OUTPUT.match(text):
        phase, index, name, value = output.groups()
        rows = log.train if phase == "Train" else log.test
        if index == "0":
            rows.append(row)
        if not rows:
            raise ValueError(f"output #{index} without #0")
        _add(rows[-1], name, float(value))


def _add(row: Row, name: str, value: float) -> None:
    """Add an output; further elements of one blob, which share its name, get a number."""
    count = sum(key == name or key.startswith(f"{name}[") for key in row)
    row[f"{name}[{count}]" if count else name] = value


class _Clock:
    """Times of lines whose prefix has no year, as seconds since the training began."""

    def __init__(self, year: int) -> None:
        self._year = year
        self._last: datetime | None = None
        self._start: datetime | None = None
        self._is_solving = False

    def seconds(self, prefix: re.Match[str]) -> float:
        """Seconds from the start to a line."""
        year, month, day, time, text = prefix.groups()
        if self._last is not None and int(month) < self._last.month and year is None:
            self._year += 1
        stamp = f"{year or self._year}-{month}-{day} {time}"
        now = self._last = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f")
        starts = text.startswith("Solving") and not self._is_solving
        if self._start is None or starts:
            self._start, self._is_solving = now, self._is_solving or starts
        return (now - self._start).total_seconds()


def _year(path: str, text: str) -> int:
    """The year a log was begun, by the file; only whether it is a leap year matters."""
    year = datetime.fromtimestamp(Path(path).stat().st_mtime).year
    if _LEAP_DAY.search(text) and not isleap(year):
        return year // 4 * 4
    return year
