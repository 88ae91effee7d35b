"""Scoring a test net: means of its outputs, or the mean average precision of its detections.

Spec: caffe-solver.md section 6; ssd-data.md section 5.

Quirk: a label without objects counts with an AP of 0.

Deliberate difference: a test without a single detection reports a mAP of 0; the reference prints
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.errors import SolverError
from caffe_ssd.evaluate.mean_ap import MeanAP, MeanAPAccumulator
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver import log

EVAL_TYPES = ("classification", "detection")
_ROW_LENGTH = 5  # item, label, score, tp, fp


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What a test net scored.

    Args:
        iteration: the number of completed updates.
        index: which test net.
        outputs: the mean of every element by output name; for detection the mAP alone.
        loss: the mean loss.
        detection: mAP and AP per class by output name (detection only).
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    iteration: int
    index: int
    outputs: dict[str, list[float]]
    loss: float
    detection: dict[str, MeanAP] = field(default_factory=dict)


class Score(Protocol):
    """Takes the results of all passes, then gives the score and logs it."""

    testing_line: log.Line

    def add(self, result: NetResult) -> None:
        """Take one pass."""

    def result(self, *, iteration: int, index: int) -> TestResult:
        """The score of all passes so far."""

    def write(self, result: TestResult) -> None:
        """Log a score."""


def check_settings(param: SolverParameter) -> None:
    """Refuse settings a test cannot be run with.

    Raises:
        SolverError: `eval_type` or `ap_version` is unknown.
    """
    if param.eval_type not in EVAL_TYPES:
        raise SolverError(f"unknown eval_type {param.eval_type!r}; known: {', '.join(EVAL_TYPES)}")
    if param.eval_type == "detection" and param.ap_version not in AP_VERSIONS:
        known = ", ".join(AP_VERSIONS)
        raise SolverError(f"unknown ap_version {param.ap_version!r}; known: {known}")


def make_score(param: SolverParameter, net: Net) -> Score:
    """The score that `eval_type` asks for; see `check_settings`."""
    if param.eval_type == "detection":
        return DetectionScore(param, net.outputs)
    return MeanScore(param, net)


class OutputMeans:
    """The mean of every element of some outputs over several passes.

    Args:
        names: the outputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._sums: dict[str, Tensor] = {}
        self._passes = 0

    def add(self, result: NetResult) -> None:
        """Take one pass.

        Raises:
            SolverError: an output has another size than before.
        """
        for name in self._names:
            blob = result.blobs[name].flatten()
            if name not in self._sums:
                self._sums[name] = blob.clone()
                continue
            if len(blob) != len(self._sums[name]):
                raise SolverError(
                    f"output {name!r} cannot be averaged: it had {len(self._sums[name])} elements "
                    f'and now has {len(blob)}; detections need eval_type: "detection"'
                )
            self._sums[name] += blob
        self._passes += 1

    def means(self) -> dict[str, list[float]]:
        """The means by name."""
        return {name: (total / self._passes).tolist() for name, total in self._sums.items()}


class MeanScore:
    """Eval type "classification": the means of all outputs.

    Args:
        param: the solver's settings.
        net: the test net.
    """

    testing_line = log.TESTING

    def __init__(self, param: SolverParameter, net: Net) -> None:
        self._shows_loss = param.test_compute_loss
        self._weights = net.loss_weights
        self._outputs = OutputMeans(net.outputs)
        self._losses: list[Tensor] = []

    def add(self, result: NetResult) -> None:
        """Take one pass; see `OutputMeans.add`."""
        self._outputs.add(result)
        self._losses.append(result.loss)

    def result(self, *, iteration: int, index: int) -> TestResult:
        """The means of all passes so far."""
        outputs = self._outputs.means()
        return TestResult(
            iteration=iteration, index=index, outputs=outputs, loss=_mean(self._losses)
        )

    def write(self, result: TestResult) -> None:
        """Log the means as the reference does."""
        if self._shows_loss:
            log.TEST_LOSS.write(loss=result.loss)
        log.write_outputs(log.TEST_OUTPUT, result.outputs, self._weights)


class DetectionScore:
    """Eval type "detection": the mAP of every output, which must come from DetectionEvaluate.

    Args:
        param: the solver's settings.
        names: the net's outputs.
    """

    testing_line = log.DETECTION_TESTING

    def __init__(self, param: SolverParameter, names: Sequence[str]) -> None:
        self._param = param
        self._accumulators = {name: MeanAPAccumulator(param.ap_version) for name in names}
        self._losses: list[Tensor] = []

    def add(self, result: NetResult) -> None:
        """Take one pass.

        Raises:
            SolverError: an output does not consist of rows of 5.
        """
        for name, accumulator in self._accumulators.items():
            accumulator.update(detection_rows(name, result.blobs[name]))
        self._losses.append(result.loss)

    def result(self, *, iteration: int, index: int) -> TestResult:
        """The mAP over all passes so far."""
        scores = {name: each.compute() for name, each in self._accumulators.items()}
        return TestResult(
            iteration=iteration,
            index=index,
            outputs={name: [score.value] for name, score in scores.items()},
            loss=_mean(self._losses),
            detection=scores,
        )

    def write(self, result: TestResult) -> None:
        """Log the mAP as the reference does."""
        if self._param.test_compute_loss:
            log.TEST_LOSS.write(loss=result.loss)
        for i, (name, score) in enumerate(result.detection.items()):
            write_class_ap(score, show=self._param.show_per_class_result)
            log.TEST_MEAN_AP.write(index=i, name=name, value=score.value)


def write_class_ap(score: MeanAP, *, show: bool = True) -> None:
    """Log a warning per class without detections and, if wanted, the AP of the others."""
    for label, value in score.per_class.items():
        if label in score.without_detections:
            log.MISSING_DETECTIONS.write(label=label)
        elif show:
            log.CLASS_AP.write(label=label, value=value)


def detection_rows(name: str, blob: Tensor) -> NDArray[np.float32]:
    """The rows of one DetectionEvaluate top, shape (rows, 5).

    Raises:
        SolverError: the blob does not consist of rows of 5.
    """
    if blob.dim() != 4 or blob.shape[3] != _ROW_LENGTH:
        raise SolverError(
            f'eval_type: "detection" needs outputs of shape 1 x 1 x rows x {_ROW_LENGTH}, as '
            f"DetectionEvaluate gives them; output {name!r} is {' x '.join(map(str, blob.shape))}. "
            "Consume other outputs with a Silence layer"
        )
    rows: NDArray[np.float32] = blob.detach().cpu().numpy().reshape(-1, _ROW_LENGTH)
    return rows


def _mean(losses: Sequence[Tensor]) -> float:
    return float(torch.stack(list(losses)).mean()) if losses else 0.0
