"""Where the recorded reference data lies, and marks that skip tests visibly where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
GOLDEN = SHARED / "golden"
BCCD = SHARED / "data" / "bccd"

needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the recorded reference data (../shared/golden) is absent"
)
needs_bccd = pytest.mark.skipif(
    not BCCD.is_dir(), reason="the BCCD data set (../shared/data/bccd) is absent"
)
