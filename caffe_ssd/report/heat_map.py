"""A table of counts as squares: for confusion matrices of any number of classes."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_ssd.report.axes import tick_text
from caffe_ssd.report.charts import figure
from caffe_ssd.report.markup import Html, element

_WIDTH_PX = 460.0
_SIDES_PX = (4.0, 46.0)
_NAMED_PX = 11.0  # squares smaller than letters have no names beside them
_NUMBERED_PX = 24.0
_LETTERS = 11


def heat_map(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    row_label: str,
    column_label: str,
    note: str = "",
) -> Html:
    """Counts as squares, darker the larger their share of the row; numbers where they fit.

    Args:
        values: row by row, not negative.
        rows, columns: names; long ones are cut and shown in full when hovered over.
        title: says what to see.
        row_label, column_label: what rows and columns are.
        note: a sentence below.
    """
    side = max(_SIDES_PX[0], min(_SIDES_PX[1], _WIDTH_PX / max(len(columns), 1)))
    is_named = side >= _NAMED_PX
    left, top = (94.0, 92.0) if is_named else (24.0, 12.0)
    width, height = side * len(columns), side * len(rows)
    marks = [element("rect", x=left, y=top, width=width, height=height, class_="cells")]
    for r, (name, counts) in enumerate(zip(rows, values, strict=True)):
        total = sum(counts) or 1.0
        for c, (column, value) in enumerate(zip(columns, counts, strict=True)):
            if value:
                tip = f"{name} \u2192 {column}: {value:g} ({value / total:.0%})"
                marks += _cell((left + c * side, top + r * side), side, value, value / total, tip)
    if is_named:
        marks += [_name(n, left - 6, top + (r + 0.5) * side + 4) for r, n in enumerate(rows)]
        marks += [_name(n, left + (c + 0.62) * side, top - 6, 55) for c, n in enumerate(columns)]
    marks.append(element("text", column_label, x=left, y=top + height + 18, class_="label"))
    marks.append(_upright(row_label, 11, top + height / 2))
    size = (max(left + width + (48 if is_named else 8), 250.0), top + height + 26)
    return figure(title, marks, legend=(), note=note, size=size)


def _cell(
    corner: tuple[float, float], side: float, value: float, share: float, tip: str
) -> list[Html]:
    x, y = corner
    gap = 2.0 if side > 12 else 0.5
    square = element(
        "rect",
        element("title", tip),
        x=x,
        y=y,
        width=side - gap,
        height=side - gap,
        rx=min(3.0, side / 8),
        class_="cell",
        style=f"fill-opacity:{0.05 + 0.95 * share:.2f}",
    )
    if side < _NUMBERED_PX:
        return [square]
    ink = "tick on" if share > 0.5 else "tick"
    middle = (x + (side - gap) / 2, y + (side - gap) / 2 + 4)
    text = tick_text(value)
    return [
        square,
        element("text", text, x=middle[0], y=middle[1], text_anchor="middle", class_=ink),
    ]


def _name(name: str, x: float, y: float, turned: int = 0) -> Html:
    """A row's or (turned) column's name, cut to the room there is."""
    short = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "\u2026"
    anchor = "start" if turned else "end"
    transform = f"rotate(-{turned} {x:.1f} {y:.1f})" if turned else None
    tip = element("title", name)
    return element(
        "text", tip, short, x=x, y=y, text_anchor=anchor, class_="tick", transform=transform
    )


def _upright(text: str, x: float, y: float) -> Html:
    turn = f"rotate(-90 {x:.1f} {y:.1f})"
    return element("text", text, x=x, y=y, text_anchor="middle", class_="label", transform=turn)
