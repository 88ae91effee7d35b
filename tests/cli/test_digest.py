"""What a terminal shows of a training, and the whole log in its file meanwhile."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from caffe_ssd.cli import train
from caffe_ssd.cli.main import main
from caffe_ssd.desk.console import run_command
from tests.cli.conftest import TRAIN_DETECTION
from tests.cli.test_runs import PREFIX, run

START = ("-weights", "snapshots/det_init.caffemodel")
LOG = Path("det_train.log")


def settings(old: str, new: str) -> None:
    path = Path("det_solver.prototxt")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def digest(capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    capsys.readouterr()
    assert main([*TRAIN_DETECTION, "-digest", "on", *flags]) == 0
    return [line.rstrip() for line in capsys.readouterr().err.splitlines()]


def test_the_digest(detection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = digest(capsys, *START, "-keep_best")
    text = "\n".join(lines)
    assert lines[0] == "caffe train: det_solver.prototxt on the CPU"
    for title, words in {
        "training": "shapes/train_lmdb, 40 pictures",
        "tests": "shapes/test_lmdb, 12 pictures",
        "classes": "2: square, disc",
        "net": "shapes_ssd_train: 8 Convolution, 4 ReLU, 4 Permute",
        "parameters": "10,092 (0.0404 MB)",
        "cost": "0.00172 GFLOP a picture",
        "input": "3 x 64 x 64, batches of 8",
        "priors": "160 (8x8x2, 4x4x2)",
        "schedule": "iterations 0 to 300 of 8 pictures, 60 passes over all",
        "start": "weights of snapshots/det_init.caffemodel",
        "whole log": "det_train.log",
    }.items():
        assert re.search(rf"^{title} +{re.escape(words)}", text, re.MULTILINE), title
    assert re.search(r"iteration 100: loss 2[.\d]*, mAP 0.8826  best so far\n +square ", text)
    assert re.search(r"iteration 200: .* mAP 0.8636  \(best 0.8826 at 100\)\n", text)
    assert re.search(r"iteration 200: the rate is now 0.002\n", text)
    assert "saved det_iter_150.caffemodel and .solverstate" in text
    assert re.search(r"^Done at iteration 300, after \d+:\d\d$", text, re.MULTILINE)
    assert lines[-1] == "best mAP 0.9026 at iteration 300, in det_best.caffemodel"
    assert ".cpp:" not in text


def test_the_file_has_the_whole_log(detection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(*TRAIN_DETECTION, *START)
    for path in Path().glob("det_*results.jsonl"):
        path.unlink()
    digest(capsys, *START)
    whole = LOG.read_text().splitlines()
    assert [PREFIX.sub("", line) for line in whole] == [PREFIX.sub("", line) for line in plain]


def test_a_resumed_training(detection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest(capsys, *START)
    length = len(LOG.read_text())
    lines = digest(capsys, "-snapshot", "det_iter_150.solverstate")
    text = "\n".join(lines)
    assert re.search(r"^start +goes on from det_iter_150.solverstate$", text, re.MULTILINE)
    assert "iterations 150 to 300" in text
    assert "(best 0.9026 at 300)" in text  # of the run before
    assert len(LOG.read_text()) > length


def test_warnings_are_shown_in_plain_words(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings("max_iter: 300", "max_iter: 10")
    lines = digest(capsys, *START, "-sync_bn")
    assert "warning: -sync_bn has no effect on one device" in lines
    assert "W" in {line[0] for line in LOG.read_text().splitlines()}


def test_classes_without_detections_are_in_the_log_alone(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original warns of each in each test; here the line of the test says so."""
    settings("max_iter: 300", "max_iter: 100")
    settings("base_lr: 0.02", "base_lr: 0")
    net = Path("det_test.prototxt")
    net.write_text(net.read_text().replace("confidence_threshold: 0.05", "confidence_threshold: 1"))
    text = "\n".join(digest(capsys, *START))
    assert "Missing true_pos" in LOG.read_text()
    assert "Missing true_pos" not in text
    assert re.search(r"^ +square 0.000  disc 0.000$", text, re.MULTILINE)


def test_a_stopped_training_says_how_to_go_on(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = digest(capsys, *START, "-stop_after", "1")
    assert "go on with -snapshot det_iter_200.solverstate" in lines
    assert any(line.startswith("Stopped at iteration 200, after ") for line in lines)


def test_classes_without_names(detection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Path("det_test.prototxt")
    text = re.sub(r"save_output_param \{[^}]*\}", "", net.read_text())
    net.write_text(text.replace('label_map_file: "shapes/labelmap.prototxt"', ""))
    settings("max_iter: 300", "max_iter: 100")
    text = "\n".join(digest(capsys, *START))
    assert re.search(r"^ +class1 [\d.]+  class2 [\d.]+$", text, re.MULTILINE)


def test_two_processes_make_one_digest(detection: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings("max_iter: 300", "max_iter: 110")
    assert main([*TRAIN_DETECTION, *START, "-digest", "on", "-cpu_processes", "2"]) == 0
    text = capfd.readouterr().err
    assert text.count("caffe train: det_solver.prototxt on the CPU, one of 2 processes") == 1
    assert text.count("iterations 0 to 110 of 16 pictures") == 1
    assert text.count("iteration 100: ") == 1
    assert ".cpp:" not in text


def test_a_classifier(classification: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("-solver", "cls_solver.prototxt", "-workers", "0", "-digest", "on")
    assert main(["train", *flags, "-weights", "snapshots/cls_init.caffemodel"]) == 0
    text = capsys.readouterr().err
    assert re.search(r"iteration 10: loss [\d.]+, accuracy [\d.]+  best so far", text)


def test_another_command_may_train(detection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own log goes on as before."""
    settings("max_iter: 300", "max_iter: 110")

    def fit(arguments: Sequence[str]) -> int:
        logger = logging.getLogger("caffe_ssd")
        handlers = list(logger.handlers)
        status = train.run(
            [*TRAIN_DETECTION[1:], *START, "-digest", "on", "-log", "fit.log", "-keep_best"]
        )
        assert logger.handlers == handlers
        logger.info("trained")
        return status

    assert run_command(fit, "caffe", []) == 0
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("caffe train: ")
    assert shown[-1].endswith("] trained")
    assert "trained" not in Path("fit.log").read_text()
    assert not LOG.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_real_terminal(detection: Path) -> None:
    settings("max_iter: 300", "max_iter: 10000000")
    with closing(Screen([*TRAIN_DETECTION, *START])) as screen:
        before = screen.settings
        screen.wait_for("saved det_iter_150.caffemodel")
        assert screen.settings != before  # ^C is not written into the bar
        assert ".cpp:" not in screen.text
        assert "whole log    det_train.log" in screen.text
        assert "images/s" in screen.text or "/10000000" in screen.text
        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(timeout=200) == 0
        screen.wait_for("go on with -snapshot det_iter_")
        assert "warning: Stopping; a second signal stops at once" in screen.text
        assert "Traceback" not in screen.text
        assert screen.settings == before
        assert LOG.read_text().rstrip().endswith("Optimization Done.")


class Screen:
    """A command at a terminal, and what it has shown so far."""

    def __init__(self, arguments: list[str]) -> None:
        import pty  # not on every system

        own, other = pty.openpty()
        self._other = other
        self.process = subprocess.Popen(
            [sys.executable, "-m", "caffe_ssd.cli.main", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "TERM": "xterm"},
        )
        self._own = own
        self._raw = b""
        self._has_more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def settings(self) -> list[object]:
        """Of the terminal."""
        import termios  # not on every system

        return list(termios.tcgetattr(self._other))

    @property
    def text(self) -> str:
        """Without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode(errors="replace"))

    def wait_for(self, words: str) -> None:
        with self._has_more:
            assert self._has_more.wait_for(lambda: words in self.text, timeout=200), self.text

    def close(self) -> None:
        """End the command, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._other)
        self._reader.join(60)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._own, 65536)
            except OSError:  # the other end is closed
                os.close(self._own)
                return
            with self._has_more:
                self._raw += data
                self._has_more.notify_all()
