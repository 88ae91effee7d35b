"""Advice is given once, with its evidence, and not to trainings that go well."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from caffe_ssd.evaluate.mean_ap import MeanAP
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import parse_text, read_solver
from caffe_ssd.solver.advice import WAIT_S, Advisor
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult
from tests.solver.nets import FedSolver, small_settings
from tests.support.golden import GOLDEN

LONG = 'max_iter: 100000 eval_type: "detection"'
NAMES = {1: "cat", 2: "dog"}


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def advisor(*, is_fresh: bool = True, now: Clock | None = None, settings: str = LONG) -> Advisor:
    param = small_settings()
    param.MergeFrom(parse_text(settings, SolverParameter()))
    now = Clock() if now is None else now
    return Advisor(FedSolver(param), NAMES, is_fresh=is_fresh, now=now)


def advice(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def display(to: Advisor, losses: Iterable[float], every: int = 50) -> None:
    for i, loss in enumerate(losses):
        to.on_display(i * every, loss, 0.1)


def of_test(iteration: int, score: float, objects: dict[int, int] | None = None) -> TestResult:
    counts = {1: 5, 2: 7} if objects is None else objects
    mean = MeanAP(
        value=score,
        per_class=dict.fromkeys(counts, score),
        without_detections=(),
        any_detections=True,
        num_objects=counts,
    )
    return TestResult(
        iteration=iteration, index=0, outputs={"m": [score]}, loss=0.0, detection={"m": mean}
    )


def test_a_loss_that_rises_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    display(advisor(), [10, 6, 4, 7, 7.5, 8, 9, 9, 9])
    assert advice(caplog) == [
        "the loss rose from 4 at iteration 100 to 8 at 250: the rate 0.1 is likely too high for "
        "this batch; lower base_lr"
    ]


@pytest.mark.parametrize(
    "losses",
    [
        [10, 6, 4, 7, 4, 7, 7, 4, 3, 3, 3],  # it swings
        [10, 1, 0.2, 0.4, 0.5, 0.4, 0.5, 0.5],  # more than twice, but of nearly nothing
        [10, 8, 7, 6, 5.5, 5.2, 5.1, 5.0, 4.9, 4.9, 4.8],
    ],
)
def test_a_loss_that_falls_in_the_end(
    losses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    display(advisor(), losses)
    assert not advice(caplog)


def test_a_loss_that_stays(caplog: pytest.LogCaptureFixture) -> None:
    shown = advisor()
    display(shown, [6.8, 6.7, 6.75, 6.8, 6.7, 6.72, 6.7, 6.69, 6.7, 6.71, 6.7, 6.7, 6.7])
    (text,) = advice(caplog)
    assert text.startswith("the loss has hardly fallen, from 6.75 to 6.7 in 450 iterations: ")


def test_few_iterations_say_nothing_of_the_rate(caplog: pytest.LogCaptureFixture) -> None:
    display(advisor(), [6.7] * 20, every=10)
    assert not advice(caplog)


def test_a_trained_net_need_not_improve(caplog: pytest.LogCaptureFixture) -> None:
    display(advisor(is_fresh=False), [0.7] * 20)
    assert not advice(caplog)


def test_later_plateaus_are_no_low_rate(caplog: pytest.LogCaptureFixture) -> None:
    display(advisor(), [6, 5, 4, 3, 3, 3, 2, 2, 2, 2] + [2] * 50)
    assert not advice(caplog)


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ("max_iter: 1500", True),
        ("max_iter: 1500 iter_size: 2", False),  # that many passes
        ("max_iter: 2000", False),
        ("max_iter: 0", False),  # a test only
    ],
)
def test_statistics_slower_than_the_training(
    settings: str, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    advisor(settings=settings)
    told = [text for text in advice(caplog) if text.startswith("BatchNorm's statistics")]
    assert len(told) == is_told
    if is_told:
        assert "over about 1,000 passes (moving_average_fraction: 0.999)" in told[0]
        assert "makes 1,500" in told[0]
        assert "moving_average_fraction to 0.99 or so" in told[0]


def test_waiting_for_pictures(caplog: pytest.LogCaptureFixture) -> None:
    now = Clock()
    shown = advisor(now=now)
    batch = (torch.zeros(4, 1),)
    shown._waits.add(batch, 1000.0)  # the workers start
    for i in range(1, 30):
        now.s += WAIT_S / 20
        shown._waits.add(batch, 0.4 * WAIT_S / 20)
        shown.on_iteration(i)
    assert len(advice(caplog)) == 1
    assert advice(caplog)[0].startswith("40% of the last 60 s were spent waiting for pictures")


def test_a_loader_that_keeps_up(caplog: pytest.LogCaptureFixture) -> None:
    now = Clock()
    shown = advisor(now=now)
    batch = (torch.zeros(4, 1),)
    for i in range(200):
        now.s += 1.0
        shown._waits.add(batch, 0.2)
        shown.on_iteration(i)
    assert not advice(caplog)


def test_a_class_that_no_test_picture_shows(caplog: pytest.LogCaptureFixture) -> None:
    shown = advisor()
    for iteration in (10, 20):
        shown.on_test(of_test(iteration, 0.4, {1: 3, 2: 0}))
    (text,) = advice(caplog)
    assert text.startswith("the test pictures hold no 'dog': the AP of such a class is 0")


def scores(to: Advisor, pairs: Iterable[tuple[float, float]]) -> None:
    for i, (loss, score) in enumerate(pairs):
        to.on_display(i * 100, loss, 0.1)
        to.on_test(of_test(i * 100 + 50, score))


def test_overfitting(caplog: pytest.LogCaptureFixture) -> None:
    scores(advisor(), [(5, 0.3), (4, 0.5), (3, 0.48), (2, 0.46), (1, 0.45), (0.9, 0.44)])
    (text,) = advice(caplog)
    assert text.startswith(
        "the training loss falls (4 to 1) while the mAP fell in 3 tests in a row (0.5000 at "
        "iteration 150 to 0.4500 at 450)"
    )


@pytest.mark.parametrize(
    "pairs",
    [
        [(5, 0.5), (4, 0.49), (3, 0.48), (2, 0.49), (1, 0.45)],  # up in between
        [(5, 0.5), (4, 0.498), (3, 0.496), (2, 0.494)],  # by next to nothing
        [(5, 0.5), (4, 0.48), (4.1, 0.46), (3, 0.44)],  # the loss rises, too
    ],
)
def test_scores_that_swing(
    pairs: list[tuple[float, float]], caplog: pytest.LogCaptureFixture
) -> None:
    scores(advisor(), pairs)
    assert not advice(caplog)


def test_a_class_that_no_training_picture_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(GOLDEN / "logs" / "detection", tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    solver = Solver(read_solver("det_solver.prototxt"))
    names = {1: "square", 2: "disc", 3: "ghost"}
    solver.observers.append(Advisor(solver, names, is_fresh=True))
    solver.step(4)
    assert not advice(caplog)  # 32 of 40 pictures
    solver.step(3)
    (text,) = advice(caplog)
    assert text.startswith("no 'ghost' in the 40 training pictures so far, which is a whole pass")


def test_a_net_without_batch_norm_has_no_statistics(caplog: pytest.LogCaptureFixture) -> None:
    param = small_settings(max_iter=1)
    del param.net_param.layer[3]
    param.net_param.layer[3].bottom[0] = "conv"
    Advisor(FedSolver(param), NAMES, is_fresh=True)
    assert not advice(caplog)
