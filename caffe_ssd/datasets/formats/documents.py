"""JSON files of a folder, and numbers in them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

from caffe_ssd.datasets.folder import Folder
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import CaffeError
from caffe_ssd.files import read_bytes

_LARGEST = 1e15


def json_documents(
    folder: Folder, names: Collection[str] | None = None
) -> Iterator[tuple[str, Any]]:
    """The JSON files of a folder, one after the other; None for what cannot be read.

    Args:
        folder: the files.
        names: only these; None for all.
    """
    for name in folder.ending(".json"):
        if names is None or name in names:
            try:
                yield name, parse_json(read_bytes(folder.path(name)), name)
            except CaffeError:
                yield name, None


def is_number(value: object) -> bool:
    """Whether a value is a number that pixels may have."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) < _LARGEST
    )
