"""parse_log and plot_training_log, on logs in the words of Caffe and on one of our own."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import cv2
import pytest

from caffe_ssd.cli.main import main as caffe
from caffe_ssd.errors import DataError
from caffe_ssd.tools import parse_log, plot_training_log
from caffe_ssd.tools.training_log import read_training_log
from tests.pycaffe.tiny import write_solver
from tests.support.golden import GOLDEN

LOG = """\
I1231 23:59:50.000000  4321 caffe.cpp:251] Starting Optimization
I1231 23:59:58.000000  4321 solver.cpp:294] Solving net
base_lr: 0.1
I1231 23:59:58.500000  4321 solver.cpp:433] Iteration 0, Testing net (#0)
I1231 23:59:59.000000  4321 solver.cpp:540] class1: 0.25
I1231 23:59:59.000000  4321 solver.cpp:546]     Test net output #0: detection_eval = 0.25
I1231 23:59:59.000000  4321 solver.cpp:243] Iteration 0, loss = 25.1
I1231 23:59:59.000000  4321 solver.cpp:259]     Train net output #0: mbox_loss = 24 (* 1 = 24 loss)
I1231 23:59:59.000000  4321 sgd_solver.cpp:138] Iteration 0, lr = 0.001
I0101 00:00:08.000000  4321 solver.cpp:243] Iteration 10 (1 iter/s, 9s/10 iters), loss = nan
I0101 00:00:08.000000  4321 solver.cpp:259]     Train net output #0: mbox_loss = 5 (* 1 = 5 loss)
I0101 00:00:08.000000  4321 solver.cpp:259]     Train net output #1: acc = -nan
I0101 00:00:08.000000  4321 solver.cpp:259]     Train net output #2: acc = 1e-05
I0101 00:00:08.000000  4321 sgd_solver.cpp:138] Iteration 10, lr = 1e-04
I0101 00:00:09.000000  4321 solver.cpp:433] Iteration 12, Testing net (#0)
I0101 00:00:09.000000  4321 solver.cpp:546]     Test net output #0: detection_eval = 0.5
"""


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "job.log"
    path.write_text(LOG)
    return str(path)


def table(path: str, delimiter: str = ",") -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def test_tables(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_log.main([log, str(tmp_path), "--verbose"]) == 0
    assert capsys.readouterr().out == f"Wrote {log}.train\nWrote {log}.test\n"
    assert table(f"{log}.train") == [
        ["NumIters", "Seconds", "LearningRate", "mbox_loss", "acc", "acc[1]"],
        ["0.0", "1.0", "0.001", "24.0", "", ""],
        ["10.0", "10.0", "0.001", "5.0", "nan", "1e-05"],
    ]
    assert table(f"{log}.test") == [
        ["NumIters", "Seconds", "LearningRate", "detection_eval"],
        ["0.0", "1.0", "0.0001", "0.25"],
        ["12.0", "11.0", "0.0001", "0.5"],
    ]
    assert parse_log.main([log, str(tmp_path), "--delimiter=;"]) == 0
    assert table(f"{log}.test", ";")[2][3] == "0.5"
    assert parse_log.main([log, str(tmp_path), "--delimiter=ab"]) == 2


@pytest.mark.parametrize("kind", ["train", "test"])
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_tables_are_the_references(task: str, kind: str, tmp_path: Path) -> None:
    folder = GOLDEN / "logs" / task
    assert parse_log.main([str(folder / "train.log"), str(tmp_path)]) == 0
    want = (folder / f"train.log.{kind}.csv").read_bytes()
    assert (tmp_path / f"train.log.{kind}").read_bytes() == want


def test_a_leap_day(log: str) -> None:
    text = LOG.replace("I1231", "I0228").replace("I0101", "I0301")
    Path(log).write_text(text)
    os.utime(log, (0, 1.7e9))  # in 2023
    assert read_training_log(log).test[1]["Seconds"] == 11
    Path(log).write_text(text.replace("I0301", "I0229"))
    os.utime(log, (0, 1.7e9))
    assert read_training_log(log).test[1]["Seconds"] == 11


def test_what_is_no_log(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(log).write_text("hello\n")
    assert parse_log.main([log, str(tmp_path)]) == 1
    assert "job.log: no line of a training in it" in capsys.readouterr().err
    Path(log).write_text(LOG.replace("= 25.1", "= much"))
    assert parse_log.main([log, str(tmp_path)]) == 1
    assert "job.log:7: cannot be read: could not convert" in capsys.readouterr().err
    assert not Path(f"{log}.train").exists()


def test_points_of_the_charts(log: str) -> None:
    read = read_training_log(log)
    curves = [plot_training_log.curve(read, chart, log) for chart in (0, 1, 4, 5)]
    assert curves == [
        ([0, 12], [0.25, 0.5]),
        ([1, 11], [0.25, 0.5]),
        ([0, 10], [0.001, 0.0001]),
        ([1, 10], [0.001, 0.0001]),
    ]
    xs, ys = plot_training_log.curve(read, 6, log)
    assert (xs, ys[0], math.isnan(ys[1])) == ([0, 10], 25.1, True)
    with pytest.raises(DataError, match=r"job\.log: nothing to draw for chart 2, Test loss vs\. I"):
        plot_training_log.curve(read, 2, log)


def test_picture(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "c.png")
    assert plot_training_log.main(["0", target, log, log]) == 0
    picture = cv2.imread(target)
    assert picture is not None
    assert picture.shape == (540, 960, 3)
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}) > 20
    assert plot_training_log.main(["8", target, log]) == 2
    assert plot_training_log.main(["0", str(tmp_path / "c.txt"), log]) == 2
    assert "has no ending of a picture" in capsys.readouterr().err


def test_our_own_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    solver = write_solver(tmp_path)
    Path(solver).write_text(Path(solver).read_text().replace("display: 0", "display: 2"))
    assert caffe(["train", "-solver", solver]) == 0
    log = tmp_path / "own.log"
    log.write_text(capfd.readouterr().err)
    read = read_training_log(str(log))
    assert [row["NumIters"] for row in read.train] == [0, 2, 4]
    assert all(row["loss"] >= 0 and row["LearningRate"] == 0.1 for row in read.train)
    assert [row["LearningRate"] for row in read.rates] == [0.1] * 3
    assert [row["NumIters"] for row in read.losses] == [0, 2, 4, 6]
