"""Commands set up logging for a process of their own; tests share one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.scoring.conftest import house
from tests.support.golden import GOLDEN

__all__ = ["house"]

TRAIN_DETECTION = ("train", "-solver", "det_solver.prototxt", "-workers", "0")
"""The recorded detection training."""


@pytest.fixture(autouse=True)
def _leave_no_trace() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    for name in ("caffe_ssd", "caffe", "lmdb_tools"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def classification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return recorded_run("classification", tmp_path, monkeypatch)


@pytest.fixture
def detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return recorded_run("detection", tmp_path, monkeypatch)


def recorded_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a recorded training's files, which becomes the current folder."""
    shutil.copytree(GOLDEN / "logs" / name, folder / name, copy_function=shutil.copyfile)
    for path in [folder / name, *(folder / name).rglob("*")]:
        path.chmod(0o755)
    monkeypatch.chdir(folder / name)
    return folder / name
