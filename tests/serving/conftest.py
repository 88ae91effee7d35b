"""The small random detector of the scoring tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import caffe_ssd
from tests.scoring.conftest import house

__all__ = ["house"]


@pytest.fixture
def detector(house: Path) -> caffe_ssd.Detector:
    return caffe_ssd.Detector(
        "deploy.prototxt",
        "w.caffemodel",
        labels="labels.prototxt",
        engine="torch",
        scale=1 / 64,
        batch=4,
    )
