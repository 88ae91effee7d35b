"""`caffe report`."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from tests.report.conftest import run

__all__ = ["run"]


def test_it_writes_a_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "-speed", "off", "-workers", "0"]) == 0
    assert capsys.readouterr().out == f"wrote {run / 'report.html'}\n"
    assert "<!doctype html>" in (run / "report.html").read_text()


def test_a_net_and_weights(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-model", "test.prototxt", "-weights", "w.caffemodel", "-speed", "off"]
    assert main(["report", *flags, "-output", "r.html", "-workers", "0"]) == 0
    assert capsys.readouterr().out == "wrote r.html\n"


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        ([], 2, "no RUN: name a run's folder"),
        (["-model", "test.prototxt"], 2, "no RUN: name a run's folder"),
        (["nowhere"], 2, "nowhere: no such folder or solver.prototxt"),
        (["pictures"], 2, "pictures is no run"),
        (["-model", "test.prototxt", "-weights", "gone"], 1, "Could not open file gone"),
        (["-model", "deploy.prototxt", "-weights", "w.caffemodel"], 2, "no DetectionEvaluate"),
    ],
)
def test_one_clear_error(
    house: Path, flags: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *flags, "-speed", "off"]) == status
    assert words in capsys.readouterr().err
    assert not Path("report.html").exists()
