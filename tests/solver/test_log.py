"""The format of log lines, which other programs parse."""

from __future__ import annotations

import logging
import re

import pytest

from caffe_ssd import log
from caffe_ssd.proto.caffe_pb2 import SolverParameter

PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{4}\d+ ([\w.]+:\d+)\] ")


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(log.GlogFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines() -> object:
    handler = Lines()
    root = logging.getLogger("caffe_ssd")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e-5, "1e-05"), (5.4321098, "5.43211"), (float("nan"), "nan"), (2.0, "2")],
)
def test_numbers_look_like_those_of_cpp(value: float, text: str) -> None:
    assert log.cpp_number(value) == text


def test_lines_carry_the_reference_source(lines: list[str]) -> None:
    log.TRAIN_LOSS.write(iteration=100, loss=4.71)
    match = PREFIX.match(lines[0])
    assert match is not None
    assert match[1] == "solver.cpp:243"
    assert lines[0].endswith("] Iteration 100, loss = 4.71")


def test_lines_of_other_parts_name_their_own_file(lines: list[str]) -> None:
    logging.getLogger("caffe_ssd.net").info("Ignoring source layer %s", "x")
    logging.getLogger("caffe_ssd.net").warning("something else")
    assert " net.cpp:761] Ignoring source layer x" in lines[0]
    assert lines[1].startswith("W")
    assert " test_log.py:" in lines[1]


def test_outputs_are_numbered_by_element(lines: list[str]) -> None:
    log.write_outputs(log.TRAIN_OUTPUT, {"accuracy": [0.5, 0.25], "loss": [3.0]}, {"loss": 0.5})
    assert [line.split("] ")[1] for line in lines] == [
        "    Train net output #0: accuracy = 0.5",
        "    Train net output #1: accuracy = 0.25",
        "    Train net output #2: loss = 3 (* 0.5 = 1.5 loss)",
    ]


def test_the_parsers_regular_expressions_match(lines: list[str]) -> None:
    log.LEARNING_RATE.write(iteration=5, rate=1e-05)
    log.TEST_OUTPUT.write(index=1, name="loss", value=1.5e-7, suffix="")
    assert re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", lines[0])[1] == "1e-05"
    match = re.search(r"Test net output #(\d+): (\S+) = ([\.\deE+-]+)", lines[1])
    assert match.groups() == ("1", "loss", "1.5e-07")
    for line in lines:
        assert line.split(" ")[0][1:].isdigit()


def test_shapes_and_messages() -> None:
    assert log.shape_text((8, 3, 300, 300)) == "8 3 300 300 (2160000)"
    assert log.shape_text(()) == "(1)"
    text = log.message_text(SolverParameter(base_lr=1, gamma=0.5, net="a: 1.0"))
    assert text == 'base_lr: 1\ngamma: 0.5\nnet: "a: 1.0"'
