"""The folder that commands run in, and what they would leave behind in this process."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import caffe
import pytest
from caffe.models import plans

from caffe_ssd.layers import registry
from tests.cli.conftest import _leave_no_trace
from tests.docs.house import furnish

__all__ = ["_leave_no_trace"]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("furnished")
    furnish(folder)
    return folder


@pytest.fixture
def house(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the furnished folder, as the working folder; a machine without GPUs."""
    folder = tmp_path / "house"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(plans, "count_gpus", lambda: 0)
    monkeypatch.setattr(registry, "_TYPES", dict(registry._TYPES))
    root = logging.getLogger()
    handlers = list(root.handlers)
    modules = set(sys.modules)
    yield folder
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    root.handlers = handlers
    caffe.set_mode_cpu()
    os.environ.pop("CAFFE_NO_PYTHON_LAYERS", None)
