"""For all tests: recorded data are unpacked once, and a busy machine makes none of them fail."""

from __future__ import annotations

from hypothesis import settings

# Imported before workers start, so that all of them read one copy of the recorded data.
from tests.support import golden  # noqa: F401

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
