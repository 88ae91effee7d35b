"""What one case may take."""

from __future__ import annotations

CPU_SECONDS = 15.0
WALL_SECONDS = 120.0
"""A machine that is busy with other things is given more time than the case may compute."""
MEMORY = 4 << 30
