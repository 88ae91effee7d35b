"""The shapes of a picture as SVG elements. Lengths are pixels from the upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

Point = tuple[float, float]
Size = tuple[float, float]

_WIRE = "#5f6b7a"
_CORNER_PX = 6.0
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
# Widths of letters in parts of the font's size: those of a wide sans serif, so that all fit.
_NARROW = frozenset("iljtfrI.,:;|!'()[]/ ")
_WIDE = frozenset("mwMW→…")
_WIDTHS = (0.36, 0.66, 0.92)
_BOLD = 1.12  # so much wider than plain letters


def document(elements: Sequence[str], *, width: float, height: float, title: str) -> str:
    """A whole file; what comes later lies on top."""
    size = f"{_number(width)} {_number(height)}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_number(width)}" '
        f'height="{_number(height)}" viewBox="0 0 {size}" font-family="{_FONT}" '
        'text-anchor="middle">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto" markerUnits="userSpaceOnUse">'
        f'<path d="M0 0 8 4 0 8z" fill="{_WIRE}"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *elements, "</svg>", ""])


def panel(corner: Point, size: Size, *, fill: str, stroke: str, tip: str) -> str:
    """A rectangle with round corners; viewers show `tip` when the mouse is over it."""
    (x, y), (width, height) = corner, size
    return (
        f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
        f'height="{_number(height)}" rx="5" fill="{fill}" stroke="{stroke}">'
        f"<title>{escape(tip)}</title></rect>"
    )


def words(middle: Point, text: str, *, size: float, colour: str, is_bold: bool = False) -> str:
    """One line of text; its base line is centred on a point."""
    bold = ' font-weight="bold"' if is_bold else ""
    return (
        f'<text x="{_number(middle[0])}" y="{_number(middle[1])}" font-size="{_number(size)}" '
        f'fill="{colour}"{bold}>{escape(text)}</text>'
    )


def arrow(points: Sequence[Point], *, is_lifted: bool) -> str:
    """Level and upright lines with round corners; a white edge may lift them off others."""
    parts = [f"M{_point(points[0])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        parts.append(f"L{_point(_toward(corner, before))}")
        parts.append(f"Q{_point(corner)} {_point(_toward(corner, after))}")
    path = "".join([*parts, f"L{_point(points[-1])}"])
    edge = f'<path d="{path}" fill="none" stroke="#ffffff" stroke-width="5"/>' if is_lifted else ""
    return edge + (
        f'<path d="{path}" fill="none" stroke="{_WIRE}" stroke-width="1.4" '
        'marker-end="url(#arrow)"/>'
    )


def text_width(text: str, size: float, *, is_bold: bool = False) -> float:
    """About how many pixels a line of text takes, rather too many than too few."""
    narrow, plain, wide = _WIDTHS
    units = (narrow if c in _NARROW else wide if c in _WIDE else plain for c in text)
    return size * sum(units) * (_BOLD if is_bold else 1.0)


def _toward(corner: Point, end: Point) -> Point:
    """The point on the way from a corner where its rounding begins."""
    dx, dy = end[0] - corner[0], end[1] - corner[1]
    length = abs(dx) + abs(dy)
    share = min(_CORNER_PX, length / 2) / length if length else 0.0
    return corner[0] + dx * share, corner[1] + dy * share


def _point(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
