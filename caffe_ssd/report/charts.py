"""Charts as inline SVG for `page.page`: lines, bars, histograms, precision-recall curves.

Every chart is a `<figure>` with its title, a legend where there are several series, and axes. No
series is told by its colour alone: lines differ in dashes and points in shape, too. The colours are
those of M. Okabe and K. Ito, Color Universal Design (2008), which the colour-blind can tell apart.
Values that are not finite are left out, and break a line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from caffe_ssd.report.axes import HEIGHT, WIDTH, Frame, Range, frame, range_of, tick_text
from caffe_ssd.report.markup import Html, element

NUM_COLOURS = 8
"""`colour` of a series counts modulo this; see page.css for the colours."""

_DASHES = (None, "7 3", "2 2.5", "9 3 2 3")
_SHAPES = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z",
    "M-3 -3h6v6h-6z",
    "M0 -4l3.8 6.6h-7.6z",
    "M0 -4.2l4.2 4.2l-4.2 4.2l-4.2 -4.2z",
    "M0 4l3.8 -6.6h-7.6z",
)


@dataclass(frozen=True, kw_only=True)
class Series:
    """What is drawn with one line.

    Args:
        name: for the legend.
        x, y: as many of one as of the other.
        colour: its number; None for its place among the series.
        has_line: whether the points are joined.
        has_points: whether points are marked, each with its numbers to hover over.
        is_faint: in the background of the others, and not in the legend.
        is_step: the line goes level to each next point and then up or down.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int | None = None
    has_line: bool = True
    has_points: bool = False
    is_faint: bool = False
    is_step: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar.

    Args:
        name: beside it.
        value: how long it is.
        text: of the value; None for the number itself.
        colour: its number.
    """

    name: str
    value: float
    text: str | None = None
    colour: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """An upright line across a chart: where the rate dropped, where a threshold lies.

    Args:
        x: where.
        text: at its upper end; may be empty.
    """

    x: float
    text: str = ""


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: Range | None = None,
    y_range: Range | None = None,
    log_y: bool = False,
    lines: Sequence[Line] = (),
    note: str = "",
) -> Html:
    """Lines or points over a number.

    Args:
        series: in the order of the legend; the first lies on top.
        title: says what to see.
        x_label, y_label: of the axes, with units.
        x_range, y_range: what is shown; None for what the values need.
        log_y: a logarithmic vertical axis; values that are not positive are left out.
        lines: upright ones.
        note: a sentence below.
    """
    x_range = x_range or range_of(v for each in series for v in each.x)
    y_range = y_range or range_of((v for each in series for v in each.y), is_log=log_y)
    axes = frame(x_range=x_range, y_range=y_range, x_label=x_label, y_label=y_label, log_y=log_y)
    drawn = [_draw(each, i, axes, log_y) for i, each in enumerate(series)]
    named = [(_swatch(each, i), each.name) for i, each in enumerate(series) if not each.is_faint]
    return figure(
        title,
        (*axes.marks, *(_upright(line, axes) for line in lines), *reversed(drawn)),
        legend=named if len(named) > 1 else (),
        note=note,
    )


def precision_recall_chart(
    curves: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    title: str,
    best: tuple[float, float, str] | None = None,
    note: str = "",
) -> Html:
    """Precision over recall, one curve per class.

    Args:
        curves: name, recall and precision, best score first.
        title: says what to see.
        best: recall, precision and text of a point to mark.
        note: a sentence below.
    """
    series = [
        Series(name=name, x=(0.0, *recall), y=(precision[0], *precision), colour=number)
        for number, (name, recall, precision) in enumerate(curves)
        if len(recall)
    ]
    if best is not None:
        x, y, text = best
        point = Series(name=text, x=(x,), y=(y,), has_line=False, has_points=True, colour=4)
        series.insert(0, point)
    return line_chart(
        series,
        title=title,
        x_label="recall",
        y_label="precision",
        x_range=(0.0, 1.02),
        y_range=(0.0, 1.03),
        note=note,
    )


def histogram(
    edges: Sequence[float],
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    title: str,
    x_label: str,
    y_label: str = "number",
    log_y: bool = False,
    lines: Sequence[Line] = (),
    note: str = "",
) -> Html:
    """Counts between edges: the first group filled, the second as an outline over it.

    Args:
        edges: one more than there are counts.
        groups: name and counts; one or two.
        title: says what to see.
        x_label, y_label: of the axes.
        log_y: a logarithmic vertical axis, which starts below 1.
        lines: upright ones.
        note: a sentence below.
    """
    most = max((max(counts, default=0) for _, counts in groups), default=0)
    y_range = (0.5, max(most * 1.4, 10.0)) if log_y else (0.0, max(most * 1.05, 1.0))
    x_range = (edges[0], edges[-1])
    axes = frame(x_range=x_range, y_range=y_range, x_label=x_label, y_label=y_label, log_y=log_y)
    drawn, legend = [], []
    for number, (name, counts) in enumerate(groups):
        look = "f0 soft" if number == 0 else "s4 line"
        drawn.append(element("path", d=_outline(edges, counts, axes), class_=look))
        drawn += [_bin_tip(edges[i : i + 2], name, n, axes) for i, n in enumerate(counts) if n]
        legend.append((_box(look), name))
    return figure(
        title,
        (*axes.marks, *drawn, *(_upright(line, axes) for line in lines)),
        legend=legend if len(groups) > 1 else (),
        note=note,
    )


def bar_chart(
    bars: Sequence[Bar], *, title: str, most: float | None = None, note: str = ""
) -> Html:
    """Level bars, each with its name and number; readable however many there are.

    Args:
        bars: from top to bottom.
        title: says what to see.
        most: the value of a bar of full length; None for the largest.
        note: a sentence below.
    """
    finite = [bar.value for bar in bars if math.isfinite(bar.value)]
    full = most or max(finite, default=0) or 1.0
    rows = []
    for bar in bars:
        share = bar.value / full if math.isfinite(bar.value) else 0.0
        text = tick_text(bar.value) if bar.text is None else bar.text
        fill = element(
            "span",
            class_=f"fill b{bar.colour % NUM_COLOURS}",
            style=f"width:{100 * min(max(share, 0), 1):.1f}%",
        )
        cells = (
            element("span", bar.name, class_="name", title=bar.name),
            element("span", fill, class_="track"),
            element("span", text, class_="value"),
        )
        rows.append(element("div", *cells, class_="bar"))
    return element(
        "figure",
        element("figcaption", title),
        element("div", *rows, class_="bars"),
        *_note(note),
        class_="chart",
    )


def _draw(series: Series, place: int, axes: Frame, log_y: bool) -> Html:
    """One series as a group."""
    colour, dash, shape = _look(series, place)
    marks = []
    if series.has_line:
        path = _path(series, axes, log_y)
        faint = " faint" if series.is_faint else ""
        look = f"s{colour} line{faint}"
        marks.append(element("path", d=path, class_=look, stroke_dasharray=dash))
    if series.has_points:
        for x, y in zip(series.x, series.y, strict=True):
            if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y):
                tip = element("title", f"{series.name}: {tick_text(x)}, {y:.4g}")
                move = f"translate({axes.x(x):.1f} {axes.y(y):.1f})"
                marks.append(
                    element("path", tip, d=shape, transform=move, class_=f"f{colour} point")
                )
    return element("g", element("title", series.name), *marks)


def _path(series: Series, axes: Frame, log_y: bool) -> str:
    parts: list[str] = []
    is_open = False
    for x, y in zip(series.x, series.y, strict=True):
        if not (math.isfinite(x) and math.isfinite(y)) or (log_y and y <= 0):
            is_open = False
            continue
        x_px, y_px = axes.x(x), axes.y(y)
        if is_open and series.is_step:
            parts.append(f"H{x_px:.1f}V{y_px:.1f}")
        else:
            parts.append(f"{'L' if is_open else 'M'}{x_px:.1f} {y_px:.1f}")
        is_open = True
    return "".join(parts)


def _look(series: Series, place: int) -> tuple[int, str | None, str]:
    """Colour, dashes and shape of points; series of one colour by plan share nothing else."""
    number = place if series.colour is None else series.colour
    dash = None if series.is_faint else _DASHES[number % len(_DASHES)]
    return number % NUM_COLOURS, dash, _SHAPES[number % len(_SHAPES)]


def _swatch(series: Series, place: int) -> Html:
    colour, dash, shape = _look(series, place)
    marks = []
    if series.has_line:
        marks.append(element("path", d="M1 6H27", class_=f"s{colour} line", stroke_dasharray=dash))
    if series.has_points:
        marks.append(
            element("path", d=shape, transform="translate(14 6)", class_=f"f{colour} point")
        )
    return element("svg", *marks, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")


def _box(look: str) -> Html:
    shape = element("path", d="M2 1H26V11H2z", class_=look)
    return element("svg", shape, viewBox="0 0 28 12", class_="swatch", aria_hidden="true")


def _upright(line: Line, axes: Frame) -> Html:
    x = axes.x(line.x)
    text: tuple[Html, ...] = ()
    if line.text:
        is_right = x > (axes.x.start + axes.x.end) / 2
        at = x - 4 if is_right else x + 4
        anchor = "end" if is_right else "start"
        text = (
            element("text", line.text, x=at, y=axes.y.end + 10, text_anchor=anchor, class_="tick"),
        )
    rule = element("path", d=f"M{x:.1f} {axes.y.start:.1f}V{axes.y.end:.1f}", class_="rule")
    return element("g", rule, *text)


def _outline(edges: Sequence[float], counts: Sequence[float], axes: Frame) -> str:
    """The upper edge of all bins, down to the axis at both ends."""
    path = f"M{axes.x(edges[0]):.1f} {axes.y.start:.1f}"
    for right, count in zip(edges[1:], counts, strict=True):
        path += f"V{axes.y(count):.1f}H{axes.x(right):.1f}"
    return f"{path}V{axes.y.start:.1f}"


def _bin_tip(edges: Sequence[float], name: str, count: float, axes: Frame) -> Html:
    """Nothing to see, but to hover over."""
    left, right = axes.x(edges[0]), axes.x(edges[1])
    tip = f"{name}, {edges[0]:.3g} to {edges[1]:.3g}: {count:g}"
    top = axes.y(count)
    shape = f"M{left:.1f} {axes.y.start:.1f}V{top:.1f}H{right:.1f}V{axes.y.start:.1f}z"
    return element("path", element("title", tip), d=shape, class_="tip")


def figure(
    title: str,
    marks: Sequence[Html],
    *,
    legend: Sequence[tuple[Html, str]],
    note: str,
    size: tuple[float, float] = (WIDTH, HEIGHT),
) -> Html:
    """A chart from its marks.

    Args:
        title: above it.
        marks: SVG elements, the last on top.
        legend: pairs of a swatch and a name.
        note: a sentence below; may be empty.
        size: width and height of the marks' coordinates.
    """
    box = f"0 0 {size[0]:.0f} {size[1]:.0f}"
    room = f"max-width:{1.3 * size[0]:.0f}px"
    picture = element("svg", element("title", title), *marks, viewBox=box, role="img", style=room)
    entries = [element("span", swatch, name) for swatch, name in legend]
    return element(
        "figure",
        element("figcaption", title),
        *([element("div", *entries, class_="legend")] if entries else ()),
        picture,
        *_note(note),
        class_="chart",
    )


def _note(note: str) -> tuple[Html, ...]:
    return (element("p", note, class_="note"),) if note else ()
