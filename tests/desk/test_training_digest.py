"""Lines about a training, made without one."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from caffe_ssd.desk.training_digest import TrainingDigest
from caffe_ssd.desk.training_summary import images_per_pass, num_pictures, training_summary
from caffe_ssd.evaluate.mean_ap import MeanAP
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult
from tests.solver.nets import small_settings


def settings(text: str) -> SolverParameter:
    param = small_settings()
    param.MergeFrom(parse_text(text, SolverParameter()))
    return param


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ('lr_policy: "fixed"', "rate 0.1"),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 4', "rate 0.1, x 0.1 at 4"),
        (
            'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3 stepvalue: 5',
            "rate 0.1, x 0.5 at 2, 3 and 5",
        ),
        ('lr_policy: "multistep" gamma: 0.1 stepvalue: 6', "rate 0.1"),  # never reached
        ('lr_policy: "step" gamma: 0.1 stepsize: 2', "rate 0.1, x 0.1 every 2"),
        ('lr_policy: "poly" power: 1', "rate 0.1 (poly)"),
    ],
)
def test_schedule(policy: str, words: str) -> None:
    solver = Solver(settings(policy))
    lines = dict(training_summary(solver, {}))
    assert lines["schedule"] == f"iterations 0 to 6; {words}"
    assert lines["training"] == "Input"
    assert "classes" not in lines


def test_a_net_without_records() -> None:
    solver = Solver(small_settings())
    assert images_per_pass(solver.net) == 0
    assert num_pictures(solver.net) == 0


def test_of_many_classes_the_worst_and_the_best() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, highlight=False, force_terminal=True, no_color=True)
    names = {label: f"thing number {label}" for label in range(1, 31)}
    shown = TrainingDigest(Solver(small_settings(eval_type="detection")), console, names)
    scores = {label: label / 100 for label in names}
    mean = MeanAP(value=0.155, per_class=scores, without_detections=(), any_detections=True)
    result = TestResult(
        iteration=20, index=0, outputs={"map": [0.155]}, loss=0.0, detection={"map": mean}
    )
    shown.on_test(result)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert lines[0].endswith("iteration 20: mAP 0.1550  best so far")
    assert all(len(line) <= 60 for line in lines)
    text = " ".join(" ".join(lines[1:]).split())
    assert text == (
        "lowest "
        + " ".join(f"thing number {i} {i / 100:.3f}" for i in range(1, 7))
        + " highest "
        + " ".join(f"thing number {i} {i / 100:.3f}" for i in range(30, 24, -1))
    )
