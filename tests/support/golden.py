"""Where the recorded reference data lies, and marks that skip tests visibly where a part is absent.

What tests need is in tests/recorded as archives and is unpacked once per session into `GOLDEN`,
which has one folder per archive. Photographs and released models are not copied: tests that need
them look into `SHARED`, beside the checkout, and are skipped where it is absent.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

_ARCHIVES = Path(__file__).resolve().parents[1] / "recorded"
_VARIABLE = "CAFFE_SSD_TESTS_RECORDED"


def _unpacked() -> Path:
    """The unpacked archives.

    tests/conftest.py imports this module in the process that starts the session, so its workers
    and whatever they start find the folder in the environment.
    """
    if _VARIABLE in os.environ:
        return Path(os.environ[_VARIABLE])
    folder, owner = tempfile.mkdtemp(prefix="recorded-"), os.getpid()
    for path in sorted(_ARCHIVES.glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            for member in archive:
                target = Path(folder, member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                assert content is not None, f"{path.name} must hold plain files only"
                target.write_bytes(content.read())

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    os.environ[_VARIABLE] = folder
    return Path(folder)


GOLDEN = _unpacked()

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SHARED_GOLDEN = SHARED / "golden"
BCCD = SHARED / "data" / "bccd"

_NOT_COPIED = "it needs photographs or released models, which are not copied ({} is absent)"
needs_shared = pytest.mark.skipif(
    not SHARED_GOLDEN.is_dir(), reason=_NOT_COPIED.format("../shared/golden")
)
needs_bccd = pytest.mark.skipif(not BCCD.is_dir(), reason=_NOT_COPIED.format("../shared/data/bccd"))


def shared_cases(cases: Iterable[Any]) -> list[Any]:
    """Cases that need the shared data; where it is absent, one that is skipped stands for all."""
    absent = pytest.param({"name": "all"}, marks=needs_shared, id="all")
    return list(cases) if SHARED_GOLDEN.is_dir() else [absent]
