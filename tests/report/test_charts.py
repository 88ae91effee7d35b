"""Charts and pages: well-formed, complete in themselves, and nobody's text becomes markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from caffe_ssd.report.axes import Scale, range_of, tick_text
from caffe_ssd.report.charts import (
    Bar,
    Line,
    Series,
    bar_chart,
    histogram,
    line_chart,
    precision_recall_chart,
)
from caffe_ssd.report.heat_map import heat_map
from caffe_ssd.report.markup import Html, element, join
from caffe_ssd.report.page import (
    Section,
    cards,
    charts,
    code,
    folded,
    gallery,
    page,
    table,
    text,
    warning,
)

EVIL = "<script>alert('x')</script>\"&amp;\x00"
NAN, INF = float("nan"), float("inf")


def all_charts(name: str = "loss") -> list[Html]:
    """One of each kind, everything called `name`."""
    line = Series(name=name, x=[0, 10, 20], y=[3.0, 2.0, 1.0])
    points = Series(name=name, x=[0, 10, 20], y=[1.0, NAN, 2.0], has_points=True)
    words = {"title": name, "x_label": name, "y_label": name, "note": name}
    return [
        line_chart([line, points], lines=[Line(x=5, text=name)], **words),
        precision_recall_chart([(name, [0.5], [1.0])], title=name, best=(0.5, 1.0, name)),
        histogram([0, 0.5, 1], [(name, [3, 0]), (name, [1, 2])], log_y=True, **words),
        bar_chart([Bar(name=name, value=0.5, text=name)], title=name, note=name),
        heat_map(
            [[3, 0], [1, 2]],
            rows=[name, "a"],
            columns=[name, "b"],
            title=name,
            row_label=name,
            column_label=name,
            note=name,
        ),
    ]


def parse(chart: Html) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def paths(chart: Html, look: str) -> list[str]:
    return [p.get("d", "") for p in parse(chart).iter("path") if p.get("class") == look]


@pytest.mark.parametrize("chart", all_charts(), ids=["line", "pr", "hist", "bar", "heat"])
def test_charts_are_well_formed_and_titled(chart: Html) -> None:
    root = parse(chart)
    assert root.findtext("figcaption") == "loss"
    for svg in root.findall("svg"):
        assert svg.findtext("title") == "loss"
        assert svg.get("role") == "img"


@pytest.mark.parametrize("chart", all_charts(EVIL), ids=["line", "pr", "hist", "bar", "heat"])
def test_text_never_becomes_markup(chart: Html) -> None:
    parse(chart)
    assert "<script" not in chart
    assert "&lt;script&gt;" in chart


def test_a_page_is_complete_and_runs_nothing() -> None:
    content = [
        cards([("0.8", EVIL)]),
        charts(all_charts(EVIL)),
        table([EVIL, "n"], [[EVIL, 1.5]], numbers=1),
        text(EVIL),
        code(EVIL),
        warning(EVIL),
        folded(EVIL, EVIL),
        gallery([(b"\xff\xd8", EVIL, EVIL)]),
        EVIL,
    ]
    html = page(EVIL, EVIL, [Section("all", EVIL, content), Section("none", "Nothing", [])])
    assert "<script" not in html
    assert "Nothing" not in html
    assert "\x00" not in html
    assert not re.search(r"(src|href)=\"(?!data:image/jpeg;base64,|#)", html)
    assert "url(" not in html
    assert "@import" not in html
    body = html[html.index("<header>") : html.index("<main>")]
    assert body.count("href=") == 1


def test_only_elements_are_markup() -> None:
    assert element("b", "<", Html("<i></i>"), 3, class_="x", data_y='"') == (
        '<b class="x" data-y="&quot;">&lt;<i></i>3</b>'
    )
    assert join(["a<", 0.5, 2.0]) == "a&lt;0.52"
    assert element("br") == "<br>"


def test_lines_go_through_their_points() -> None:
    chart = line_chart(
        [Series(name="a", x=[0, 10], y=[0, 1])],
        title="t",
        x_label="x",
        y_label="y",
        x_range=(0, 10),
        y_range=(0, 1),
    )
    (path,) = paths(chart, "s0 line")
    x0, y0, x1, y1 = map(float, re.findall(r"[\d.]+", path))
    axis = next(p for p in paths(chart, "axis") if "H" in p)
    left, bottom, right = map(float, re.findall(r"[\d.]+", axis))
    assert (x0, y0, x1) == (left, bottom, right)
    assert y1 == 12


def test_what_is_not_finite_breaks_the_line() -> None:
    series = Series(name="a", x=[0, 1, 2, 3, 4], y=[1, 2, NAN, INF, 3])
    (path,) = paths(line_chart([series], title="", x_label="", y_label=""), "s0 line")
    assert path.count("M") == 2
    log = line_chart(
        [Series(name="a", x=[0, 1, 2], y=[1, 0, 2])], title="", x_label="", y_label="", log_y=True
    )
    assert paths(log, "s0 line")[0].count("M") == 2


def test_series_differ_by_more_than_colour() -> None:
    lines = [Series(name=str(i), x=[0, 1], y=[0, i], has_points=True) for i in range(20)]
    root = parse(line_chart(lines, title="t", x_label="x", y_label="y"))
    looks = set()
    for entry in root.findall("div/span/svg"):
        line, point = entry.findall("path")
        looks.add((line.get("class"), line.get("stroke-dasharray"), point.get("d")))
    assert len(looks) == 20
    by_shape = {(dash, shape) for _, dash, shape in looks}
    assert len(by_shape) == 20


def test_a_single_series_needs_no_legend() -> None:
    chart = line_chart([Series(name="a", x=[0], y=[0])], title="t", x_label="x", y_label="y")
    assert 'class="legend"' not in chart


@pytest.mark.parametrize("values", [[], [0.0], [5.0], [NAN], [-1.0, 1e-9], [1e9, 2e9], [0.1, 0.1]])
@pytest.mark.parametrize("log_y", [False, True])
def test_any_values_can_be_drawn(values: list[float], log_y: bool) -> None:
    series = [Series(name="a", x=range(len(values)), y=values, has_points=True)]
    chart = line_chart(series, title="t", x_label="x", y_label="y", log_y=log_y)
    assert "nan" not in chart
    parse(chart)


def test_empty_charts() -> None:
    words = {"title": "t", "x_label": "x"}
    for chart in (
        line_chart([], y_label="y", **words),
        histogram([0, 1], [("a", [0])], **words),
        precision_recall_chart([("a", [], [])], title="t"),
        bar_chart([], title="t"),
        bar_chart([Bar(name="a", value=NAN)], title="t"),
        heat_map([], rows=[], columns=[], title="t", row_label="r", column_label="c"),
    ):
        parse(chart)


def test_a_heat_map_of_80_classes_is_small() -> None:
    names = [str(i) for i in range(81)]
    values = [[int(r == c) for c in range(81)] for r in range(81)]
    chart = heat_map(values, rows=names, columns=names, title="t", row_label="r", column_label="c")
    assert len(parse(chart).findall("svg/rect")) == 1 + 81
    assert len(chart) < 40_000


def test_ticks_are_round() -> None:
    def ticks(low: float, high: float, is_log: bool = False) -> list[float]:
        return Scale(low=low, high=high, start=0, end=100, is_log=is_log).ticks()

    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0, 3200) == [0, 1000, 2000, 3000]
    assert ticks(1, 9, True) == [1, 2, 5]
    assert ticks(0.5, 20000, True) == [1, 10, 100, 1000, 10000]
    assert [tick_text(v) for v in (0.25, 20000, 2.5e6, 1e-5)] == ["0.25", "20k", "2.5M", "1e-05"]
    low, high = range_of([1.0, 2.0])
    assert low < 1 < 2 < high
