"""For all tests: recorded data are unpacked once, a busy machine makes none of them fail, and what
engines remember is not the user's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# Imported before workers start, so that all of them read one copy of the recorded data.
from tests.support import golden  # noqa: F401

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder for this run and the processes it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAFFE_SSD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
