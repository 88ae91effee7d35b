"""Keeps memory that a training step frees for the next one.

A step on the CPU makes and frees the same blobs again and again. The GNU C library hands large
ones back to the system at once, and a tenth of the time goes into asking for them again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_IN_HEAP = 32 << 20  # bytes; the most that the library takes
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Set up the C library's allocator, unless its environment variables do or it is another's."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
