"""`caffe train -keep_best`, `-stop_after` and `-log`, on the recorded detector's training.

Its tests score 0.882576 at iteration 100, 0.863636 at 200 and 0.902597 at 300.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.errors import DataError
from caffe_ssd.proto.binary import read_weights
from caffe_ssd.solver.results_file import ResultsFile, earlier_entries, read_results
from tests.cli.conftest import TRAIN_DETECTION

CAFFE = (sys.executable, "-m", "caffe_ssd.cli.main")
START = ("-weights", "snapshots/det_init.caffemodel")
TESTS = 'test_net: "det_test.prototxt"\ntest_iter: 3\ntest_interval: 100\n'
BEST = Path("det_best.caffemodel")


def entries(kind: str) -> list[dict[str, object]]:
    return [dict(e) for e in read_results("det_results.jsonl") if e["kind"] == kind]


def blobs(path: Path | str) -> list[bytes]:
    return [layer.SerializeToString() for layer in read_weights(path).layer]


def score(weights: Path) -> float:
    """The mAP of weights as `caffe test` finds it."""
    flags = ("-model", "det_test.prototxt", "-iterations", "3", "-workers", "0")
    out = subprocess.run(
        [*CAFFE, "test", *flags, "-weights", str(weights)],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    ).stderr
    line = next(x for x in out.splitlines() if "mAP (11point)" in x)
    return float(line.rpartition("= ")[2])


def test_the_best_weights_are_those_of_the_best_test(detection: Path) -> None:
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    assert [e["iteration"] for e in entries("best")] == [100, 300]  # 200 was worse
    assert entries("best")[-1]["score"] == pytest.approx(0.902597, abs=1e-3)
    assert entries("best")[-1]["weights"] == str(BEST)
    assert blobs(BEST) == blobs("det_iter_300.caffemodel")


def test_they_stay_when_tests_get_worse(detection: Path) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("max_iter: 300", "max_iter: 250"))
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    assert [e["iteration"] for e in entries("best")] == [100]
    assert score(BEST) == pytest.approx(0.882576, abs=1e-3)


def test_a_resumed_training_goes_on_comparing(detection: Path) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("snapshot: 150", "snapshot: 50"))
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    whole = blobs(BEST)
    results = Path("det_results.jsonl")
    lines = [x for x in results.read_text().splitlines() if json.loads(x)["iteration"] < 250]
    results.write_text("\n".join(lines) + '\n{"kind": "tr')  # as a crash leaves it
    before = BEST.read_bytes()
    assert main([*TRAIN_DETECTION, "-snapshot", "det_iter_150.solverstate", "-keep_best"]) == 0
    assert [e["iteration"] for e in entries("best")] == [100, 300]
    assert blobs(BEST) == whole
    assert before == BEST.read_bytes()


def test_another_training_begins_anew(detection: Path) -> None:
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("base_lr: 0.02", "base_lr: 1e-6"))
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    assert [e["iteration"] for e in entries("best")][:3] == [100, 300, 100]
    assert entries("best")[2]["score"] < 0.5
    assert blobs(BEST) != blobs("snapshots/det_iter_300.caffemodel")


def test_the_file_that_went_is_no_best(detection: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("max_iter: 300", "max_iter: 150"))
    assert main([*TRAIN_DETECTION, *START, "-keep_best"]) == 0
    BEST.unlink()
    settings.write_text(settings.read_text().replace("max_iter: 150", "max_iter: 250"))
    assert main([*TRAIN_DETECTION, "-snapshot", "det_iter_150.solverstate", "-keep_best"]) == 0
    assert [e["iteration"] for e in entries("best")] == [100, 200]
    assert score(BEST) == pytest.approx(0.863636, abs=1e-3)


@pytest.mark.parametrize("keep", [True, False])
def test_stop_after_tests_that_are_not_better(
    detection: Path, keep: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["-stop_after", "1", *(["-keep_best"] if keep else [])]
    assert main([*TRAIN_DETECTION, *START, *flags]) == 0
    log = capsys.readouterr().err
    assert "1 tests in a row were not better than 0.88" in log
    assert "Optimization stopped early." in log
    assert Path("det_iter_200.solverstate").exists()  # at the test, not an iteration later
    assert not Path("det_iter_300.solverstate").exists()
    assert BEST.exists() == keep


def test_tests_before_a_resume_count(detection: Path) -> None:
    settings = Path("det_solver.prototxt")
    text = settings.read_text()
    text = text.replace("test_interval: 100", "test_interval: 50").replace(
        "snapshot: 150", "snapshot: 50"
    )
    # The rate is 0 from 100 on, so that no test is better than that at 100 or 150.
    settings.write_text(text.replace("stepvalue: 200", "stepvalue: 120").replace("0.1", "0", 1))
    assert main([*TRAIN_DETECTION, *START]) == 0
    tests = {int(str(e["iteration"])): e["outputs"]["detection_eval"][0] for e in entries("test")}
    best = min(i for i in tests if tests[i] == max(tests.values()))
    assert best <= 150
    assert (
        main([*TRAIN_DETECTION, "-snapshot", "det_iter_200.solverstate", "-stop_after", "2"]) == 0
    )
    last = entries("test")[-1]["iteration"]
    assert last == max(200, best + 100)


def test_two_processes_keep_the_best(detection: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["-keep_best", "-stop_after", "1", "-cpu_processes", "2", "-log", "whole.log"]
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("base_lr: 0.02", "base_lr: 0"))
    assert main([*TRAIN_DETECTION, *START, *flags]) == 0
    assert [e["iteration"] for e in entries("best")] == [100]
    assert Path("det_iter_200.solverstate").exists()
    log = Path("whole.log").read_text()
    assert log.count("Solving shapes_ssd_train") == 1
    assert "Use CPU." in log.splitlines()[0]
    assert log.rstrip().endswith("Optimization Done.")
    assert without_warnings(capfd.readouterr().err) == without_warnings(log)


def without_warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("I")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (TESTS, "", "this solver makes none"),
        ('eval_type: "detection"', "", 'need a test net with a mAP (eval_type: "detection")'),
        ('snapshot_prefix: "det"', "", "need a snapshot_prefix"),
    ],
)
def test_nothing_to_compare(
    detection: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace(old, new).replace("snapshot: 150", ""))
    assert main([*TRAIN_DETECTION, "-keep_best"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("det_results.jsonl").exists()


def test_accuracy_is_a_score(classification: Path) -> None:
    train = ("train", "-solver", "cls_solver.prototxt", "-workers", "0", "-keep_best")
    assert main([*train, "-weights", "snapshots/cls_init.caffemodel"]) == 0
    kept = [e for e in read_results("cls_results.jsonl") if e["kind"] == "best"]
    assert kept[-1]["output"] == "accuracy"
    assert Path("cls_best.caffemodel").exists()


# The log ------------------------------------------------------------------------------------------


def test_the_log_is_what_standard_error_shows(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("whole.log").write_text("an old one\n")
    assert main([*TRAIN_DETECTION, *START, "-log", "whole.log"]) == 0
    shown = capsys.readouterr().err
    assert Path("whole.log").read_text() == shown
    assert (
        main([*TRAIN_DETECTION, "-snapshot", "det_iter_150.solverstate", "-log", "whole.log"]) == 0
    )
    assert Path("whole.log").read_text() == shown + capsys.readouterr().err


def test_the_log_says_why_a_training_failed(detection: Path) -> None:
    net = Path("det_train.prototxt")
    net.write_text(net.read_text().replace("shapes/train_lmdb", "missing_lmdb"))
    assert main([*TRAIN_DETECTION, "-log", "whole.log"]) == 1
    last = Path("whole.log").read_text().splitlines()[-1]
    assert last.startswith("caffe: ")
    assert "missing_lmdb" in last


def test_a_log_that_cannot_be_written_is_one_error(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN_DETECTION, "-log", "nowhere/whole.log"]) == 1
    error = capsys.readouterr().err
    assert error == (
        "caffe: Could not write the log to nowhere/whole.log: No such file or directory\n"
    )
    assert not Path("det_results.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_end_the_training(
    detection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert main([*TRAIN_DETECTION, *START, "-log", "/dev/full"]) == 0
    assert capsys.readouterr().err.count("Could not write the log to /dev/full: No space") == 1
    assert Path("det_iter_300.solverstate").exists()


def test_a_training_that_is_refused_leaves_the_log_alone(detection: Path) -> None:
    """The other one writes to it."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    Path("whole.log").write_text("the other's\n")
    assert main([*TRAIN_DETECTION, "-log", "whole.log"]) == 1
    holder.communicate("end\n", timeout=60)
    assert Path("whole.log").read_text() == "the other's\n"


HOLD = """
from caffe_ssd.solver.prefix_lock import prefix_lock
with prefix_lock("det"):
    print("held", flush=True)
    input()
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_the_log_ends_well_at_a_signal(detection: Path, processes: int) -> None:
    settings = Path("det_solver.prototxt")
    settings.write_text(settings.read_text().replace("max_iter: 300", "max_iter: 10000000"))
    several = ["-cpu_processes", str(processes)] if processes > 1 else []
    process = subprocess.Popen(
        [*CAFFE, *TRAIN_DETECTION, "-log", "whole.log", *several],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while not Path("whole.log").exists() or "Iteration 50, lo" not in Path("whole.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=200) == 0
    log = Path("whole.log").read_text()
    assert "Optimization stopped early." in log
    assert log.rstrip().endswith("Optimization Done.")


def test_results_before_a_fresh_start_are_another_trainings(tmp_path: Path) -> None:
    path = tmp_path / "x_results.jsonl"
    assert earlier_entries(path, 10) == []
    for start in (0, 20, 0, 10):
        ResultsFile(path, start)
    assert [e["iteration"] for e in earlier_entries(path, 30)] == [0, 10]
    assert earlier_entries(path, 0) == []


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x_results.jsonl"
    path.write_text('{"kind": "start", "iteration": 0}\n[1]\n{"kind": "start", "iteration": 0}\n')
    with pytest.raises(DataError, match=r"x_results\.jsonl:2: not an entry of a results file"):
        earlier_entries(path, 5)
