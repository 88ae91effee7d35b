"""Advice while a training runs: each once, with its evidence, as a warning in the log.

Spec: none; the reference says nothing. The rules are strict rather than quick, so that a training
that goes well is left alone; docs/training.md lists them. That a loss explodes or is not finite is
the watchdog's to say.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_ssd.data.batches import BatchReader, LabelKind
from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.log import cpp_number
from caffe_ssd.solver.hooks import Observer
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult

logger = logging.getLogger(__name__)

RISE = 1.5  # times the lowest loss displayed
RISEN_SHARE = 0.1  # of the first loss, by which it must have risen, too
RISE_DISPLAYS = 3  # in a row

FLAT_SHARE = 0.03  # of the first losses, by which it must have fallen
FLAT_DISPLAYS = 10
FLAT_ITERATIONS = 300

WINDOWS = 2  # of the running statistics, that a training should make passes for

WAIT_SHARE = 0.3
WAIT_S = 60.0  # watched before anything is said of it

FALLS = 3  # tests in a row, each worse than the one before
FALLEN = 0.01  # mAP, in all of them together

_LABEL = 1  # column of a label blob


class _Tested(NamedTuple):
    iteration: int
    score: float
    loss: float  # displayed last before


class Advisor(Observer):
    """Looks on, and gives advice.

    Args:
        solver: what is trained, not started yet.
        names: of the classes by label.
        is_fresh: it starts from initial values, at iteration 0.
        now: the time in seconds.
    """

    def __init__(
        self,
        solver: Solver,
        names: Mapping[int, str],
        *,
        is_fresh: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._solver, self._names, self._is_fresh = solver, names, is_fresh
        self._now = now
        self._told: set[str] = set()
        self._losses: list[tuple[int, float]] = []
        self._tests: deque[_Tested] = deque(maxlen=FALLS + 1)
        self._waits = _Waits(now)
        self._seen: set[int] = set()
        self._num_seen = 0
        self._num_whole = 0  # pictures that a look at the classes needs
        self._listen()
        self._look_at_statistics()

    def on_iteration(self, iteration: int) -> None:
        self._look_at_waiting()
        self._look_at_training_classes()

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        self._losses.append((iteration, loss))
        self._look_for_rise(rate)
        if self._is_fresh:
            self._look_for_fall(rate)

    def on_test(self, result: TestResult) -> None:
        if result.index != 0 or not result.detection:
            return
        score = next(iter(result.detection.values()))
        missing = [label for label, count in score.num_objects.items() if count == 0]
        if missing:
            self._tell(
                "test classes",
                f"the test pictures hold no {self._listed(missing)}: the AP of such a class is 0 "
                "and lowers the mAP; test on pictures with all classes, or leave it out of the "
                "label map",
            )
        if self._losses:
            self._tests.append(_Tested(result.iteration, score.value, self._losses[-1][1]))
            self._look_for_overfitting()

    # Rules ---------------------------------------------------------------------------------------

    def _look_for_rise(self, rate: float) -> None:
        if len(self._losses) <= RISE_DISPLAYS:
            return
        lowest_at, lowest = min(self._losses, key=lambda pair: pair[1])
        least = max(RISE * lowest, lowest + RISEN_SHARE * self._losses[0][1])
        last = self._losses[-RISE_DISPLAYS:]
        if lowest > 0 and all(at > lowest_at and loss > least for at, loss in last):
            self._tell(
                "rise",
                f"the loss rose from {cpp_number(lowest)} at iteration {lowest_at} to "
                f"{cpp_number(last[-1][1])} at {last[-1][0]}: the rate {cpp_number(rate)} is "
                "likely too high for this batch; lower base_lr",
            )

    def _look_for_fall(self, rate: float) -> None:
        """Once, when enough has been displayed."""
        if len(self._losses) < FLAT_DISPLAYS or "flat" in self._told:
            return
        (first_at, _), (last_at, _) = self._losses[0], self._losses[-1]
        if last_at - first_at < FLAT_ITERATIONS:
            return
        third = len(self._losses) // 3
        losses = [loss for _, loss in self._losses]
        first, last = (sum(some) / third for some in (losses[:third], losses[-third:]))
        self._is_fresh = False  # it has been looked at
        if last > (1 - FLAT_SHARE) * first:
            self._tell(
                "flat",
                f"the loss has hardly fallen, from {cpp_number(first)} to {cpp_number(last)} in "
                f"{last_at} iterations: the rate {cpp_number(rate)} may be too low, or the "
                "labels say nothing about the pictures (look at some with lmdb_tools.inspect)",
            )

    def _look_at_statistics(self) -> None:
        param = self._solver.param
        layers = [
            layer
            for layer in self._solver.net.layers
            if isinstance(layer, BatchNorm) and not layer.use_global_stats
        ]
        kept = max((layer.moving_average_fraction for layer in layers), default=0.0)
        passes = param.max_iter * param.iter_size
        window = round(1 / (1 - kept)) if 0 < kept < 1 else 0
        if 0 < passes < WINDOWS * window:
            self._tell(
                "statistics",
                f"BatchNorm's statistics average over about {window:,} passes "
                f"(moving_average_fraction: {cpp_number(kept)}), and this training makes "
                f"{passes:,}: tests will see statistics of an older net; set "
                f"moving_average_fraction to {1 - 10 / passes:.2g} or so "
                "(--statistics-kept of the scripts), or run caffe recalibrate at the end",
            )

    def _look_at_waiting(self) -> None:
        share = self._waits.share()
        if share is not None and share > WAIT_SHARE:
            workers = self._solver.runtime.data_workers
            self._tell(
                "waiting",
                f"{share:.0%} of the last {WAIT_S:.0f} s were spent waiting for pictures: let more "
                f"processes read them (-workers, now {workers}), store them smaller, or "
                "augment faster (-skip_jpeg_roundtrip)",
            )

    def _look_at_training_classes(self) -> None:
        if self._num_whole == 0 or self._num_seen < self._num_whole:
            return
        missing = [label for label in self._names if label not in self._seen]
        if missing:
            self._tell(
                "training classes",
                f"no {self._listed(missing)} in the {self._num_seen:,} training pictures so far, "
                "which is a whole pass: the net cannot learn what it does not see",
            )
        self._num_whole = 0  # it has been looked at

    def _look_for_overfitting(self) -> None:
        tests = list(self._tests)
        pairs = list(pairwise(tests))
        if len(pairs) < FALLS or tests[0].score - tests[-1].score < FALLEN:
            return
        if all(b.score < a.score and b.loss < a.loss for a, b in pairs):
            self._tell(
                "overfitting",
                f"the training loss falls ({cpp_number(tests[0].loss)} to "
                f"{cpp_number(tests[-1].loss)}) while the mAP fell in {FALLS} tests in a row "
                f"({tests[0].score:.4f} at iteration {tests[0].iteration} to "
                f"{tests[-1].score:.4f} at {tests[-1].iteration}): the net learns its pictures by "
                "heart; -keep_best keeps the best weights, -stop_after ends in time, and more "
                "pictures or more augmentation help",
            )

    # ---------------------------------------------------------------------------------------------

    def _listed(self, labels: list[int]) -> str:
        names = [repr(self._names.get(label, f"class{label}")) for label in labels]
        return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

    def _tell(self, topic: str, text: str) -> None:
        if topic not in self._told:
            self._told.add(topic)
            logger.warning("%s", text)

    def _listen(self) -> None:
        """Have the train net's loaders tell what they hand out and how long that took."""
        for loader in _loaders(self._solver):
            loader.listeners.append(self._waits.add)
        if self._solver.runtime.world_size > 1:
            return  # this process sees a part of the pictures only
        for loader in _loaders(self._solver):
            reader = loader.reader
            if isinstance(reader, BatchReader) and reader.label is LabelKind.BOXES:
                self._num_whole = len(reader.source)
                loader.listeners.append(self._note_labels)
                return

    def _note_labels(self, batch: tuple[Tensor, ...], waited_s: float) -> None:
        if self._num_whole:
            self._num_seen += len(batch[0])
            self._seen.update(torch.unique(batch[1][..., _LABEL].long()).tolist())


class _Waits:
    """How much of the time is spent waiting for data."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begin: float | None = None  # the first batch, which starts the workers, is over
        self._waited_s = 0.0

    def add(self, batch: tuple[Tensor, ...], waited_s: float) -> None:
        """A batch came after so many seconds."""
        if self._begin is None:
            self._begin = self._now()
        else:
            self._waited_s += waited_s

    def share(self) -> float | None:
        """The share in the last window; None while it is not over."""
        if self._begin is None or (elapsed := self._now() - self._begin) < WAIT_S:
            return None
        share = self._waited_s / elapsed
        self._begin, self._waited_s = self._now(), 0.0
        return share


def _loaders(solver: Solver) -> Iterator[BatchLoader]:
    for layer in solver.net.layers:
        if isinstance(layer, RecordLayer):
            yield layer.loader
