"""Databases that several files of this folder read."""

from __future__ import annotations

import pytest

from tests.data.databases import write_small_database
from tests.support.blank import blank_bccd, converted
from tests.support.golden import BCCD


@pytest.fixture(scope="session")
def small_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_small_database(tmp_path_factory.mktemp("small") / "lmdb")


@pytest.fixture(scope="session")
def bccd_trainval(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of which the random augmentation was recorded: 292 images."""
    return converted(BCCD, "trainval", tmp_path_factory.mktemp("bccd") / "lmdb")


@pytest.fixture(scope="session")
def blank_trainval(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same boxes on pictures without content."""
    folder = tmp_path_factory.mktemp("blank")
    return converted(blank_bccd(folder / "bccd"), "trainval", folder / "lmdb")
