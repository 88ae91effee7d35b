"""Exit statuses, errors in one line, closed outputs, and a log that leaves no trace."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from caffe_ssd.desk.console import PACKAGES, run_command, show, tell
from caffe_ssd.errors import CaffeError, DataError, UsageError

Action = Callable[[Sequence[str]], int | None]


def failing(error: BaseException) -> Action:
    def action(arguments: Sequence[str]) -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        (lambda _: None, 0, ""),
        (lambda _: 3, 3, ""),
        (failing(DataError("bad")), 1, "tool: bad\n"),
        (failing(UsageError("odd")), 2, "tool: odd\n"),
        (failing(KeyboardInterrupt()), 130, "tool: stopped at once; what was not saved is lost\n"),
        (failing(SystemExit(0)), 0, ""),
    ],
)
def test_statuses(
    action: Action, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(action, "tool", []) == status
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("flag", ["-debug", "--debug"])
def test_failures_are_raised_on_request(flag: str) -> None:
    with pytest.raises(CaffeError, match="bad"):
        run_command(failing(DataError("bad")), "tool", ["a", flag])


def test_the_log_is_shown_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in PACKAGES]
    before = [(list(each.handlers), each.level, each.propagate) for each in loggers]

    def action(arguments: Sequence[str]) -> None:
        for each in loggers:
            each.info("from %s", each.name)

    assert run_command(action, "tool", []) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("] ")[2] for line in lines] == [f"from {name}" for name in PACKAGES]
    assert all(line.startswith("I") for line in lines)
    assert [(list(each.handlers), each.level, each.propagate) for each in loggers] == before


def test_closed_outputs_are_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    tell("nobody listens")
    monkeypatch.undo()
    assert capsys.readouterr().out == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    program = (
        "import sys; from caffe_ssd.desk.console import run_command, show\n"
        "sys.exit(run_command(lambda _: [show('x' * 999) for _ in range(500)] and 7, 'tool', []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7  # the work went on


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_full_disk_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run_command(lambda _: show("text"), "tool", []) == 1
        monkeypatch.undo()
        assert "Could not write to standard output: No space" in capsys.readouterr().err
