"""`caffe train -tensorboard`: event files with losses, scores and pictures."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.solver.results_file import read_results
from tests.cli.conftest import TRAIN_DETECTION

START = ("-weights", "snapshots/det_init.caffemodel")


def read_events(folder: str) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(folder, size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def scalars(events: Any, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def test_events_are_what_was_displayed(detection: Path) -> None:
    pytest.importorskip("tensorboard")
    assert main([*TRAIN_DETECTION, *START, "-tensorboard", "board"]) == 0
    events = read_events("board")
    results = read_results("det_results.jsonl")
    shown = {e["iteration"]: e["loss"] for e in results if e["kind"] == "train"}
    assert scalars(events, "train/loss") == pytest.approx(shown)
    assert scalars(events, "train/rate")[200] == pytest.approx(0.002)
    norms = scalars(events, "train/gradient norm")
    assert norms.keys() == shown.keys()
    assert all(0 < norm < 1000 for norm in norms.values())
    assert scalars(events, "train/images per second")[50] > 0
    tests = {e["iteration"]: e for e in results if e["kind"] == "test"}
    maps = {at: e["outputs"]["detection_eval"][0] for at, e in tests.items()}
    assert scalars(events, "test/mAP") == pytest.approx(maps)
    assert scalars(events, "AP/disc").keys() == tests.keys()
    assert scalars(events, "AP/square")[100] == pytest.approx(
        tests[100]["class_ap"]["detection_eval"]["1"]
    )
    assert len(events.Images("pictures/3")) == 3
    assert events.Images("pictures/0")[0].width >= 300


def test_it_changes_no_number(detection: Path) -> None:
    pytest.importorskip("tensorboard")
    assert main([*TRAIN_DETECTION, *START]) == 0
    plain = Path("det_iter_300.caffemodel").read_bytes()
    assert main([*TRAIN_DETECTION, *START, "-tensorboard", "board"]) == 0
    assert Path("det_iter_300.caffemodel").read_bytes() == plain


def test_a_classifier_has_its_accuracy(classification: Path) -> None:
    pytest.importorskip("tensorboard")
    flags = ("-solver", "cls_solver.prototxt", "-workers", "0", "-tensorboard", "board")
    assert main(["train", *flags, "-weights", "snapshots/cls_init.caffemodel"]) == 0
    assert len(scalars(read_events("board"), "test/accuracy")) == 4


def test_without_the_package(
    detection: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def import_(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch.utils.tensorboard":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_)
    assert main([*TRAIN_DETECTION, "-tensorboard", "board"]) == 2
    assert "pip install 'ssd-caffe[tensorboard]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    Path("board").write_text("a file")
    assert main([*TRAIN_DETECTION, "-tensorboard", "board"]) == 1
    assert "-tensorboard board cannot be written to" in capsys.readouterr().err
