"""Databases that several files of this folder read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdb_tools.convert_annoset import main as convert_annoset
from tests.data.databases import write_small_database
from tests.support.golden import BCCD


@pytest.fixture(scope="session")
def small_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_small_database(tmp_path_factory.mktemp("small") / "lmdb")


@pytest.fixture(scope="session")
def bccd_trainval(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The database of which the random augmentation was recorded: 292 images."""
    path = str(tmp_path_factory.mktemp("bccd") / "bccd_trainval_lmdb")
    flags = f"--anno_type=detection --label_map_file={BCCD}/labelmap_bccd.prototxt --check_label"
    files = [f"{BCCD}/", f"{BCCD}/trainval.txt", path]
    assert convert_annoset([*flags.split(), "--encode_type=jpg", "--encoded", *files]) == 0
    assert Path(path).is_dir()
    return path
