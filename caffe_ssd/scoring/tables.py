"""Scores and their costs as tables of text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import TestSet
from caffe_ssd.files import atomic_write


def format_scores(
    categories: Mapping[str, str],
    scores: Sequence[ProtocolScore],
    num_objects: Mapping[str, int] | None = None,
) -> str:
    """A table by class, and below it every headline number.

    Args:
        categories: name in result files -> name to show, in the order of the lines.
        scores: what to show side by side.
        num_objects: objects by category; None leaves the column out.
    """
    columns = []
    if num_objects is not None:
        columns.append(("", "objects", {name: str(n) for name, n in num_objects.items()}))
    for each in scores:
        group = each.title.removesuffix(" protocol")
        for column, values in each.per_class.items():
            columns.append((group, column, {k: _number(v, 4) for k, v in values.items()}))
            group = ""
    lines = [["", *(group for group, _, _ in columns)], ["class", *(c for _, c, _ in columns)]]
    for name, shown in categories.items():
        lines.append([shown, *(values.get(name, "-") for _, _, values in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
    table = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    numbers = {name: value for each in scores for name, value in each.numbers.items()}
    width = max(map(len, numbers), default=0)
    return "\n".join([*table, "", *(f"{n:<{width}}  {_number(v, 6)}" for n, v in numbers.items())])


def scores_to_dict(
    categories: Mapping[str, str],
    scores: Sequence[ProtocolScore],
    test_set: TestSet | None = None,
) -> dict[str, object]:
    """All scores as plain numbers and texts, for JSON; what is not defined is None.

    Args:
        categories: name in result files -> name to show.
        scores: of one or more protocols.
        test_set: the truth, to count images and objects; None leaves them out.
    """
    content: dict[str, object] = {} if test_set is None else {"images": len(test_set.images)}
    content["numbers"] = {k: _finite(v) for each in scores for k, v in each.numbers.items()}
    content["classes"] = [
        {
            "category": name,
            "class": shown,
            **({} if test_set is None else {"objects": test_set.num_objects()[name]}),
            **{
                each.title: {c: _finite(v.get(name, math.nan)) for c, v in each.per_class.items()}
                for each in scores
            },
        }
        for name, shown in categories.items()
    ]
    return content


def write_json(path: str | Path, content: object) -> None:
    """Write numbers and texts as JSON.

    Raises:
        FileError: the file cannot be written.
    """
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def format_cost(exact: Mapping[str, float], reduced: Mapping[str, float], precision: str) -> str:
    """Scores side by side, and how much is lost; a negative cost is a gain.

    Args:
        exact: scores in float32 by name.
        reduced: the same scores in another precision.
        precision: its name.
    """
    width = max(map(len, ("score", *exact)))
    lines = [f"{'score':<{width}}  {'fp32':>8}  {precision:>8}  {'cost':>8}"]
    for name, value in exact.items():
        cost = value - reduced[name]
        lines.append(f"{name:<{width}}  {value:8.4f}  {reduced[name]:8.4f}  {cost:+8.4f}")
    return "\n".join(lines)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
