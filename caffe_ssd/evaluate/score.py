"""What a protocol says of a detector: headline numbers and a table by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProtocolScore:
    """The result of one protocol; every number is a fraction, nan where it is not defined.

    Args:
        title: the protocol's name for people.
        numbers: headline numbers by their full name, the one to quote first.
        per_class: column -> category (its name in result files) -> value.
    """

    title: str
    numbers: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
