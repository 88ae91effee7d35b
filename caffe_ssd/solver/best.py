"""The best weights of a training by the score of its tests, and an end when they no longer improve.

Spec: none; the reference keeps every snapshot and leaves the choice to its user.

The score is the mAP of the first test net that detects, or else its first output whose name begins
with "accuracy". Two trainings under one prefix are told apart by the results file: what a training
that began at iteration 0 scored belongs to it and to those that resumed it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from caffe_ssd.errors import UsageError
from caffe_ssd.log import cpp_number
from caffe_ssd.net import Net
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.hooks import Action, Observer
from caffe_ssd.solver.results_file import Entry, ResultsFile
from caffe_ssd.solver.snapshot_files import best_path, write_weights
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult

logger = logging.getLogger(__name__)

_ACCURACY = "accuracy"


class Scored(NamedTuple):
    """A score and where it was reached."""

    iteration: int
    score: float


class BestKeeper(Observer):
    """Writes `<snapshot_prefix>_best.caffemodel` at every test that beats those before it.

    It should be told of a test after `results`.

    Args:
        solver: what is trained; its test net 0 is the judge.
        results: gets an entry per best test.
        earlier: the entries of the trainings that this one resumes, see `earlier_entries`.
        keep: write the weights; without it tests are only compared.
        stop_after: tests in a row that are not better before the training stops; None for never.

    Attributes:
        best: the best test so far.
    """

    def __init__(
        self,
        solver: Solver,
        results: ResultsFile,
        earlier: Sequence[Entry],
        *,
        keep: bool,
        stop_after: int | None = None,
    ) -> None:
        self._solver, self._results = solver, results
        self._keep, self._stop_after = keep, stop_after
        self._path = best_path(solver.param)
        self._wants_stop = False
        self.best: Scored | None = None
        self._worse = 0  # tests since the best one
        self._take_over(earlier)

    def on_test(self, result: TestResult) -> None:
        """Compare a score; write the weights if it is the best."""
        name = score_name(self._solver.param, result.outputs)
        if result.index != 0 or name is None:
            return
        found = Scored(result.iteration, result.outputs[name][0])
        if self.best is None or found.score > self.best.score:
            if self._keep:
                self._write(found, name)
            self.best, self._worse = found, 0
            return
        if found.iteration == self.best.iteration:  # a resumed training repeats its test
            return
        self._worse += 1
        if self._stop_after is not None and self._worse >= self._stop_after:
            logger.warning(
                "Stopping at iteration %d: %d tests in a row were not better than %s at "
                "iteration %d",
                *(found.iteration, self._worse, cpp_number(self.best.score), self.best.iteration),
            )
            self._wants_stop = True

    def action(self) -> Action:
        """Stop once the tests do not get better; see `Solver.action_source`."""
        wants_stop, self._wants_stop = self._wants_stop, False
        return Action.STOP if wants_stop else Action.NONE

    def _write(self, found: Scored, name: str) -> None:
        self._solver.watchdog.read()
        write_weights(self._solver.param, self._solver.net, self._path, found.iteration)
        logger.info("Best %s so far (%s), written to %s", name, cpp_number(found.score), self._path)
        self._results.add_best(found.iteration, found.score, name, self._path)

    def _take_over(self, earlier: Sequence[Entry]) -> None:
        """Go on comparing where an interrupted training stopped."""
        scores = _scores(self._solver.param, earlier)
        if self._keep:  # with what is in the file, which may have been another training's
            kept = {
                int(str(entry["iteration"])): float(str(entry["score"]))
                for entry in earlier
                if entry["kind"] == "best" and entry.get("score") is not None
            }
            if kept and not Path(self._path).exists():
                logger.warning("%s is gone: the best weights are looked for anew", self._path)
                kept = {}
            self.best = _first_best([Scored(*item) for item in sorted(kept.items())])
        else:
            self.best = _first_best(scores)
        now = self._solver.iter
        if self.best is not None:
            self._worse = sum(self.best.iteration < each.iteration < now for each in scores)


def best_test(param: SolverParameter, entries: Sequence[Entry]) -> Scored | None:
    """The best test among the entries of a results file."""
    return _first_best(_scores(param, entries))


def check_has_score(param: SolverParameter, test_nets: Sequence[Net]) -> None:
    """Make sure that tests will give a score to compare.

    Raises:
        UsageError: they will not.
    """
    if not test_nets or param.test_interval <= 0:
        raise UsageError(
            "-keep_best and -stop_after compare tests, and this solver makes none: give it a test "
            "net, test_iter and test_interval"
        )
    if (
        param.eval_type != "detection"
        and score_name(param, dict.fromkeys(test_nets[0].outputs)) is None
    ):
        raise UsageError(
            '-keep_best and -stop_after need a test net with a mAP (eval_type: "detection") or '
            f"an output named {_ACCURACY}; outputs: {', '.join(test_nets[0].outputs)}"
        )
    if not param.snapshot_prefix:
        raise UsageError("-keep_best and -stop_after need a snapshot_prefix in the solver")


def score_name(param: SolverParameter, outputs: Mapping[str, object]) -> str | None:
    """Which output of a test is its score; None if there is none."""
    if param.eval_type == "detection":
        return next(iter(outputs), None)
    return next((name for name in outputs if name.lower().startswith(_ACCURACY)), None)


def _first_best(scores: Sequence[Scored]) -> Scored | None:
    return max(scores, key=lambda each: (each.score, -each.iteration), default=None)


def _scores(param: SolverParameter, entries: Sequence[Entry]) -> list[Scored]:
    """The score of test net 0 by iteration; a repeated test counts once."""
    found: dict[int, float] = {}
    for entry in entries:
        outputs = entry.get("outputs")
        if entry["kind"] != "test" or entry.get("net") != 0 or not isinstance(outputs, dict):
            continue
        name = score_name(param, outputs)
        if name is not None and outputs[name] and outputs[name][0] is not None:
            found[int(str(entry["iteration"]))] = float(outputs[name][0])
    return [Scored(*item) for item in sorted(found.items())]
