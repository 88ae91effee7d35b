"""Scoring a test net: means of its outputs, or the mean average precision of its detections.

Spec: caffe-solver.md section 6; ssd-data.md section 5.

Quirk: a label without objects counts with an AP of 0.

Deliberate difference: a test without a single detection reports a mAP of 0; the reference prints
nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from caffe_ssd import log
from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.errors import NetError, SolverError
from caffe_ssd.evaluate.mean_ap import MeanAP
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.scoring.tally import Tally, judged_outputs, log_class_ap

logger = logging.getLogger(__name__)

EVAL_TYPES = ("classification", "detection")


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


class Score:
    """Takes the results of all passes of a test, then gives the score and logs it.

    Eval type "classification" means all outputs; eval type "detection" makes each of them, which
    must come from DetectionEvaluate, a mAP.

    Args:
        param: the solver's settings; see `check_settings`.
        net: the test net.

    Attributes:
        testing_line: what the log says as the test begins.
    """

    def __init__(self, param: SolverParameter, net: Net) -> None:
        self._param = param
        self._weights = net.loss_weights
        self._is_detection = param.eval_type == "detection"
        self.testing_line = log.DETECTION_TESTING if self._is_detection else log.TESTING
        judged, averaged = (net.outputs, []) if self._is_detection else ([], net.outputs)
        if not self._is_detection and (meaningless := judged_outputs(net)):
            logger.warning(
                'eval_type is "classification", so the rows of DetectionEvaluate (%s) are averaged '
                'and mean nothing; eval_type: "detection" in the solver scores them',
                ", ".join(meaningless),
            )
        versions = [param.ap_version] if self._is_detection else []
        self._tally = Tally(averaged=averaged, judged=judged, versions=versions)

    def add(self, result: NetResult) -> None:
        """Take one pass.

        Raises:
            SolverError: the outputs are not what `eval_type` says; see `Tally.add`.
        """
        try:
            self._tally.add(result)
        except NetError as error:
            hint = "" if self._is_detection else '; detections need eval_type: "detection"'
            raise SolverError(f'eval_type: "{self._param.eval_type}": {error}{hint}') from error

    def result(self, *, iteration: int, index: int) -> TestResult:
        """The score of all passes so far."""
        scores = {name: each[0].compute() for name, each in self._tally.accumulators.items()}
        outputs = self._tally.means() | {name: [score.value] for name, score in scores.items()}
        return TestResult(
            iteration=iteration,
            index=index,
            outputs=outputs,
            loss=self._tally.loss,
            detection=scores,
        )

    def write(self, result: TestResult) -> None:
        """Log a score as the reference does."""
        if self._param.test_compute_loss:
            log.TEST_LOSS.write(loss=result.loss)
        if not self._is_detection:
            log.write_outputs(log.TEST_OUTPUT, result.outputs, self._weights)
        for i, (name, score) in enumerate(result.detection.items()):
            log_class_ap(score, show=self._param.show_per_class_result)
            log.TEST_MEAN_AP.write(index=i, name=name, value=score.value)
