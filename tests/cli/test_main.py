"""The command line as a whole: dispatch, help, errors and exit statuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from caffe_ssd import __version__
from caffe_ssd.cli.main import ACTIONS, main
from caffe_ssd.distribution import NAME
from caffe_ssd.errors import FileError


@pytest.mark.parametrize("arguments", [["--help"], ["-help"], ["-h"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(action in text for action in ACTIONS)


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_version(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([flag]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{NAME} {__version__} (PyTorch {torch.__version__}")
    assert len(text.splitlines()) == 1


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: caffe <action> [flags]" in capsys.readouterr().err


def test_unknown_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    message = capsys.readouterr().err
    assert message == (
        f"caffe: unknown action 'trian'; did you mean train? known: {', '.join(ACTIONS)}\n"
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_has_help_with_examples(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([action, "-help"]) == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert f"caffe {action}" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "-solver is missing: the solver's prototxt"),
        (["test", "-model", "m"], "-weights is missing"),
        (["time"], "-model is missing"),
        (["train", "-solver", "s", "-snapshot", "a", "-weights", "b"], "not both"),
        (["train", "-solver", "s", "-workers", "-1"], "-workers must be at least 0, got -1"),
        (["train", "-solver", "s", "-sigint_effect", "quit"], "invalid choice: 'quit'"),
        (["train", "-solver", "s", "-gpu", "0", "-cpu-processes", "2"], "no -gpu, got -gpu 0"),
        (["train", "-solver", "s", "-cpu_processes", "0"], "1 process and no -gpu, got 0"),
        (["train", "-slover", "s"], "unknown flag -slover; did you mean -solver?"),
        (["test", "-model", "m", "-weights", "w", "-iterations", "0"], "must be at least 1, got 0"),
        (["time", "-model", "m", "-phase", "BOTH"], "-phase must be TRAIN or TEST, got 'BOTH'"),
        (["time", "-model", "m", "-gpu", "a"], "-gpu: takes ids of GPUs separated by ',' or 'all'"),
        (["time", "-model", "m", "-gpu", "1,1"], "-gpu: names a GPU twice"),
    ],
)
def test_wrong_usage_is_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("caffe: ")
    assert message in error


def test_failure_is_status_1_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.prototxt")
    assert main(["train", "-solver", missing]) == 1
    error = capsys.readouterr().err
    assert error == f"caffe: Could not open file {missing}: No such file or directory\n"


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.prototxt"):
        main(["train", "--debug", "-solver", str(tmp_path / "none.prototxt")])


@pytest.mark.parametrize("action", ACTIONS)
def test_help_shows_one_spelling_of_a_flag(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([action, "--help"]) == 0
    flags = capsys.readouterr().out.partition("\nflags:\n")[2].partition("\nexamples:")[0]
    names = re.findall(r"^  (-\S+)", flags, re.MULTILINE)
    assert len(names) == len(set(names)) >= 2
    assert [name for name in names if name.startswith("--")] == ["--help"]


@pytest.mark.parametrize(
    ("action", "flag", "told"),
    [
        ("summary", "phase", "TRAIN or TEST (TEST)"),
        ("draw", "phase", "TRAIN or TEST (TEST)"),
        ("time", "phase", "(TRAIN; TEST with -engine)"),
        ("train", "weights", "not together with -snapshot"),
        ("test", "weights", "the net's weights"),
        ("test", "iterations", "every record once for detectors, else 50"),
    ],
)
def test_help_says_what_a_flag_does_here(
    action: str, flag: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([action, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    about = text.partition(f" -{flag} ")[2][:200]
    assert told in about
    assert action == "train" or "-snapshot" not in text
