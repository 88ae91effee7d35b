"""Steps whose log lines tell nobody anything: warnings only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Log warnings and errors only while the block runs."""
    packages = [logging.getLogger(name) for name in ("caffe_ssd", "lmdb_tools")]
    before = [package.level for package in packages]
    for package in packages:
        package.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for package, level in zip(packages, before, strict=True):
            package.setLevel(level)
