"""Runs scripts of examples/ in an empty folder."""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from caffe.models import plans

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Run:
    """Run a script, named from examples/, in an empty folder on a machine without GPUs."""
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(plans, "count_gpus", lambda: 0)

    def start(name: str, *args: str) -> int:
        path = str(EXAMPLES / name)
        monkeypatch.setattr(sys, "argv", [path, *args])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        code = ended.value.code
        return code if isinstance(code, int) else 1

    return start
