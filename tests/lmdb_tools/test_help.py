"""Every tool explains itself, with an example."""

from __future__ import annotations

import importlib

import pytest

from lmdb_tools.__main__ import TOOLS

NAMES = [name for group in TOOLS.values() for name in group]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(name: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(f"lmdb_tools.{name}").main([word]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ")
    assert "\nflags:\n  --help " in text
    assert name in text.partition("examples:\n")[2]


@pytest.mark.parametrize("name", NAMES)
def test_usage_errors_are_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(f"lmdb_tools.{name}").main(["-no_such_flag"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: unknown flag -no_such_flag")
    assert line.endswith(f"{name} --help")
