"""Flags, signals, results files, devices."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from caffe_ssd import devices
from caffe_ssd.cli.flags import ActionParser, check_files, net_state
from caffe_ssd.cli.signals import watch
from caffe_ssd.desk.console import AT_ONCE
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.evaluate.mean_ap import MeanAP
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver import Action, TestResult
from caffe_ssd.solver.results_file import ResultsFile


def parser() -> ActionParser:
    made = ActionParser("train", description="", examples="")
    made.add_reference_flags("solver", "sigint_effect", "level", "stage")
    return made


def test_flags_without_effect_draw_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    parser().parse_action(["-solver", "s", "-phase", "TEST"])
    assert [r.getMessage() for r in caplog.records] == ["-phase has no effect in caffe train"]


def test_files_are_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    args = Namespace(solver=str(tmp_path / "a"), snapshot="", weights=f"{tmp_path}/a,{tmp_path}/b")
    check_files(args, "solver", "snapshot")
    with pytest.raises(FileError, match=r"Could not open file .*/b: No such file .* \(-weights\)"):
        check_files(args, "solver", "weights")
    args.snapshot = str(tmp_path)
    with pytest.raises(FileError, match=r"Is a directory \(-snapshot\)"):
        check_files(args, "snapshot")


def test_state_has_an_empty_stage_unless_told() -> None:
    assert list(net_state(parser().parse_action([]), "TEST").stage) == [""]
    state = net_state(parser().parse_action(["-stage", "a,b", "-level", "2"]), "TEST")
    assert (list(state.stage), state.level, state.phase) == (["a", "b"], 2, 1)


def test_signals_become_actions() -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    with watch(sigint_effect="stop", sighup_effect="snapshot") as actions:
        assert actions.action() is Action.NONE
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)
        assert actions.action() is Action.SNAPSHOT  # SIGHUP first
        assert actions.action() is Action.STOP
        assert actions.action() is Action.NONE
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_a_process_that_hangs(number: signal.Signals) -> None:
    """The main thread waits inside a library, where Python's own handlers never run."""
    program = """
import ctypes, sys
from caffe_ssd.cli.signals import watch
with watch(sigint_effect="stop", sighup_effect="none"):
    print("ready", flush=True)
    while ctypes.CDLL(None).poll(None, 0, 60_000):  # interrupted by each signal
        pass
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(number)
        _, errors = process.communicate(timeout=50)
    assert process.returncode == 130
    assert errors.decode().splitlines() == [f"caffe: {AT_ONCE}"]


def test_the_same_signal_from_two_sides_is_one() -> None:
    with watch(sigint_effect="stop", sighup_effect="none") as actions:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert actions.action() is Action.STOP


def test_signals_without_effect() -> None:
    with watch(sigint_effect="none", sighup_effect="none") as actions:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            assert actions.action() is Action.NONE


def test_results_are_appended_as_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "s_results.jsonl"
    ResultsFile(path, 0).on_display(20, 1.5, 0.1)
    results = ResultsFile(path, 20)
    results.on_display(40, math.nan, 0.1)
    score = MeanAP(
        value=0.5, per_class={1: 1.0, 2: 0.0}, without_detections=(2,), any_detections=True
    )
    results.on_test(
        TestResult(iteration=40, index=0, outputs={"e": [0.5]}, loss=0.0, detection={"e": score})
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["iteration"]) for line in lines] == [
        ("start", 0),
        ("train", 20),
        ("start", 20),
        ("train", 40),
        ("test", 40),
    ]
    assert (lines[1]["loss"], lines[1]["lr"], lines[3]["loss"]) == (1.5, 0.1, None)
    assert lines[4]["outputs"] == {"e": [0.5]}
    assert lines[4]["class_ap"] == {"e": {"1": 1.0, "2": 0.0}}


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"Could not write file .*no/such"):
        ResultsFile(tmp_path / "no" / "such" / "s.jsonl", 0)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    cuda = [torch.device("cuda", i) for i in range(3)]
    assert devices.choose_devices("2,0") == [cuda[2], cuda[0]]
    assert devices.choose_devices("all") == cuda
    assert devices.choose_devices("") == [torch.device("cpu")]
    assert devices.choose_devices("", SolverParameter(device_id=1)) == [cuda[1]]
    on_cpu = SolverParameter(solver_mode=SolverParameter.CPU)
    assert devices.choose_devices("", on_cpu) == [torch.device("cpu")]
    assert devices.choose_devices("1", on_cpu) == [cuda[1]]
    with pytest.raises(UsageError, match="no GPU 3; this machine has 0 to 2"):
        devices.choose_devices("0,3")


def test_the_cpu_stands_in_for_missing_gpus(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.choose_devices("0,1") == [torch.device("cpu")]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no CUDA device" in caplog.text


def test_tf32_is_allowed_or_not() -> None:
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for allowed in (True, False):
            devices.allow_tf32(allowed)
            assert [backend.allow_tf32 for backend in backends] == [allowed] * 2
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
