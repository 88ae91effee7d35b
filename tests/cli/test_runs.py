"""`caffe train`, `test` and `time` against the logs of the reference."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.net import build_net
from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.caffe_pb2 import NetState
from caffe_ssd.proto.text import read_net, read_solver
from caffe_ssd.scoring.whole_set import end_with_set, passes_over_set
from caffe_ssd.solver import Solver
from tests.cli.conftest import TRAIN_DETECTION, recorded_run

PREFIX = re.compile(r"^[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ ([\w.]+:\d+)\] ")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")
# Remarks that only the reference makes: on its data thread, when it gets to it.
FOREIGN = ("Opened lmdb", "blocking_queue", " learnable layers from ")
STATE = "cls_iter_20.solverstate"


def run(*arguments: str) -> list[str]:
    """The log lines of a command that must succeed."""
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        assert main([*arguments, "-workers", "0"]) == 0
    return log.getvalue().splitlines()


def texts(lines: list[str], start: str) -> list[str]:
    """Source and text of the log lines from `start` on, without what only one of the two says."""
    found = [PREFIX.sub(r"\1] ", line) for line in lines]
    first = next(i for i, line in enumerate(found) if start in line)
    return [line for line in found[first:] if not any(word in line for word in FOREIGN)]


def assert_same(mine: list[str], theirs: list[str], rel: float = 1e-4) -> None:
    """Equal words, and numbers equal but for rounding."""
    assert [NUMBER.sub("#", line) for line in mine] == [NUMBER.sub("#", line) for line in theirs]
    for a, b in zip(mine, theirs, strict=True):
        got = [float(x) for x in NUMBER.findall(a)]
        assert got == pytest.approx([float(x) for x in NUMBER.findall(b)], rel=rel), (a, b)


def read(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize(
    ("solver", "log"),
    [
        ("cls_solver", "train"),
        ("cls_solver_adam", "train_adam"),
        ("cls_solver_hdf5", "train_hdf5"),
    ],
)
def test_training_repeats_the_recorded_log(classification: Path, solver: str, log: str) -> None:
    weights = "snapshots/cls_init.caffemodel"
    lines = run("train", "-solver", f"{solver}.prototxt", "-weights", weights)
    theirs = read(classification / f"{log}.log")
    start = "Starting Optimization"
    assert_same(texts(lines, start), texts(theirs, start))
    results = list(classification.glob("*_results.jsonl"))
    kinds = [json.loads(line)["kind"] for line in read(results[0])]
    assert kinds == ["start", *["test", "train", "train"] * 3, "test"]


def test_construction_repeats_the_recorded_log(classification: Path) -> None:
    lines = run("train", "-solver", "cls_solver.prototxt")
    end = "Solver scaffolding done."
    mine, theirs = (
        texts(some, "Initializing solver") for some in (lines, read(classification / "train.log"))
    )
    stop = next(i for i, line in enumerate(theirs) if end in line)
    assert mine[: stop + 1] == theirs[: stop + 1]


@pytest.mark.parametrize(("folder", "name"), [("classification", "cls"), ("detection", "det")])
def test_fillers_behind_data_layers_are_the_recorded_ones(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data layers draw seeds before the fillers do."""
    recorded_run(folder, tmp_path, monkeypatch)
    net = Solver(read_solver(f"{name}_solver.prototxt")).net.to_proto()
    recorded = read_weights(f"snapshots/{name}_init.caffemodel")
    mine, theirs = (
        {(layer.name, i): list(b.data) for layer in n.layer for i, b in enumerate(layer.blobs)}
        for n in (net, recorded)
    )
    assert len(mine) >= 4
    assert mine == theirs


def test_construction_with_layers_inside_layers(detection: Path) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("max_iter: 300", "max_iter: 0"))
    lines = run("train", "-solver", "det_solver.prototxt")
    start, end = "Creating training net", "Creating test net"
    mine, theirs = (texts(some, start) for some in (lines, read(detection / "train.log")))
    stop = next(i for i, line in enumerate(theirs) if end in line)
    assert_same(mine[: stop + 1], theirs[: stop + 1])
    assert any("mbox_loss_softmax_conf" in line for line in mine[:stop])


@pytest.mark.parametrize("first", ["true", "false"])
def test_resume_equals_the_uninterrupted_run(classification: Path, first: str) -> None:
    """Two batches are no whole pass over the test set, so each test begins at other records."""
    path = Path("cls_solver.prototxt")
    path.write_text(
        path.read_text().replace("test_iter: 3", f"test_iter: 2 test_initialization: {first}")
    )
    solver = ("train", "-solver", "cls_solver.prototxt")
    whole = run(*solver, "-weights", "snapshots/cls_init.caffemodel")
    resumed = run(*solver, "-snapshot", STATE)
    start = "Iteration 20, Testing"
    assert texts(resumed, start) == texts(whole, start)


def test_restart_data_is_the_references_resume(classification: Path) -> None:
    run("train", "-solver", "cls_solver.prototxt", "-weights", "snapshots/cls_init.caffemodel")
    lines = run("train", "-solver", "cls_solver.prototxt", "-snapshot", STATE, "--restart-data")
    start = "Resuming from"
    assert_same(texts(lines, start), texts(read(classification / "resume.log"), start))


def test_scoring_repeats_the_recorded_log(classification: Path) -> None:
    weights = "snapshots/cls_iter_30.caffemodel"
    lines = run(
        "test", "-model", "cls_train_test.prototxt", "-weights", weights, "-iterations", "3"
    )
    start = "Use CPU"
    assert_same(texts(lines, start), texts(read(classification / "test.log"), start))


def test_timing_has_the_recorded_lines(classification: Path) -> None:
    lines = run("time", "-model", "cls_train_test.prototxt", "-iterations", "2")
    start = "Performing Forward"
    mine, theirs = texts(lines, start), texts(read(classification / "time.log"), start)
    theirs = [line for line in theirs if "Iteration: 3" not in line]
    assert [NUMBER.sub("#", x) for x in mine] == [NUMBER.sub("#", x) for x in theirs]


def test_two_processes(classification: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-solver=cls_solver.prototxt", "-cpu-processes=2", "-workers=0"]) == 0
    log = capfd.readouterr().err
    assert log.count("Solving stripes") == 1  # the other device says nothing
    assert log.count("Optimization Done.") == 2
    assert Path("cls_iter_30.solverstate").exists()


def test_a_failure_in_a_process_is_one_line(
    classification: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = Path("cls_train_test.prototxt")
    net.write_text(net.read_text().replace("stripes_train_lmdb", "missing_lmdb"))
    assert main(["train", "-solver=cls_solver.prototxt", "-cpu_processes", "2"]) == 1
    errors = [x for x in capfd.readouterr().err.splitlines() if x.startswith("caffe: ")]
    assert errors
    assert all("missing_lmdb" in line for line in errors)


def test_detection_training_repeats_the_recorded_map(detection: Path) -> None:
    Path("det_solver.prototxt").write_text(
        Path("det_solver.prototxt").read_text().replace("max_iter: 300", "max_iter: 100")
    )
    weights = "snapshots/det_init.caffemodel"
    lines = run(*TRAIN_DETECTION, "-weights", weights)
    start = "Starting Optimization"
    mine, theirs = texts(lines, start), texts(read(detection / "train.log"), start)
    cut = next(i for i, line in enumerate(theirs) if "loss = 1.41719" in line)
    mine = [
        line for line in mine if "Snapshotting" not in line and "Iteration 100, loss" not in line
    ]
    assert_same(mine[:cut], theirs[:cut], rel=1e-3)
    assert mine[cut - 1].endswith("detection_eval = 0.882576")


def test_a_terminal_sees_the_names_of_the_classes(
    detection: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("-model", "det_test.prototxt", "-weights", "snapshots/det_iter_300.caffemodel")
    assert main(["test", *flags, "-workers", "0"]) == 0
    assert capsys.readouterr().out == ""  # as the original's
    monkeypatch.setattr("caffe_ssd.cli.test.is_terminal", lambda stream: True)
    assert main(["test", *flags, "-workers", "0"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^square +[\d.]+", table, re.MULTILINE)
    assert re.search(r"^disc +[\d.]+", table, re.MULTILINE)


@pytest.mark.parametrize("batch_size", [4, 5])
def test_scoring_detections(detection: Path, batch_size: int) -> None:
    """mAP does not depend on whether the batch size divides the 12 images."""
    model = Path("det_test.prototxt")
    model.write_text(model.read_text().replace("batch_size: 4", f"batch_size: {batch_size}"))
    lines = run("test", "-model", str(model), "-weights", "snapshots/det_iter_300.caffemodel")
    assert any("Running for 3 iterations." in line for line in lines)
    assert any(line.endswith("mAP (11point) = 0.902597") for line in lines)
    assert sum("mAP (" in line for line in lines) == 3
    assert sum("class1: " in line for line in lines) == 3


def test_the_last_batch_ends_with_the_set(detection: Path) -> None:
    model = Path("det_test.prototxt")
    model.write_text(model.read_text().replace("batch_size: 4", "batch_size: 5"))
    net = build_net(read_net(model), NetState(phase=1))
    assert passes_over_set(net) == 3
    end_with_set(net)
    layer = net.layers[0]
    sizes, items = [], []
    for _ in range(4):
        data, label = layer()
        sizes.append(len(data))
        items.append(int(label[0, 0, :, 0].max()))
    assert sizes == [5, 5, 2, 5]
    assert items[2] == 1
