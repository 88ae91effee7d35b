"""Rows of the published tables by name."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

from caffe.catalogue import CATALOGUE, Published

from caffe_ssd.errors import UsageError

# From the narrowest to the widest meaning of a name.
_NAMES: tuple[Callable[[Published], str], ...] = (
    lambda row: row.name,
    lambda row: row.variant,
    lambda row: row.recipe.name,
    lambda row: row.family.name,
)


def select(name: str | None) -> tuple[Published, ...]:
    """The lines of the catalogue that a name means.

    Args:
        name: of a row, a variant, its folders, or a family, in any case; None for all.

    Raises:
        UsageError: there is nothing of that name.
    """
    if name is None:
        return CATALOGUE
    for names_of in _NAMES:
        rows = tuple(row for row in CATALOGUE if name.lower() == names_of(row).lower())
        if rows:
            return rows
    known = [list(dict.fromkeys(map(names_of, CATALOGUE))) for names_of in _NAMES]
    close = get_close_matches(name, [*known[1], *known[-1], *known[0]], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"no published model {name!r}; {hint}models: {', '.join(known[1])}; "
        f"families: {', '.join(known[-1])}"
    )


def select_row(name: str) -> Published:
    """The one row that a name means.

    Raises:
        UsageError: there is nothing of that name, or there are several rows.
    """
    rows = select(name)
    if len(rows) > 1:
        names = ", ".join(row.name for row in rows)
        raise UsageError(f"{name} has {len(rows)} rows; which one? {names}")
    return rows[0]


def heading(row: Published) -> str:
    """A row in a line: name, score, data."""
    note = f" ({row.note})" if row.note else ""
    score = "" if row.score_percent is None else f"{row.score_percent:.1f} mAP on {row.tested_on}, "
    return f"{row.name}: {score}trained on {row.trained_on}{note}"
