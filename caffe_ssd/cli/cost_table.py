"""What a reduced precision costs, as a table."""

from __future__ import annotations

from collections.abc import Mapping


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
