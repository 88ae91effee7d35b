"""The frame of a page that is one file: no network, no script, light and dark, narrow and wide.

    page("BCCD", "What the detector can do.", [Section("curves", "Curves", [charts([...])])])

Everything that is plain text is escaped (`markup`); charts come from `charts`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from caffe_ssd import __version__
from caffe_ssd.report.markup import Html, element, join

_NOTHING_FROM_OUTSIDE = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A part of the page, reached from the bar at its top.

    Args:
        key: its anchor: letters and "-".
        title: for people.
        content: of `Html`; plain text becomes text.
    """

    key: str
    title: str
    content: Sequence[object]


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A whole file.

    Args:
        title: what it is about.
        lead: a sentence below it.
        sections: in order; empty ones are left out.
    """
    shown = [each for each in sections if each.content]
    links = [element("a", each.title, href=f"#{each.key}") for each in shown]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_NOTHING_FROM_OUTSIDE),
        element("title", title),
        Html(f"<style>{_style()}</style>"),
    )
    body = element(
        "body",
        element("header", element("h1", title), element("p", lead, class_="lead")),
        element("nav", element("div", *links), aria_label="sections"),
        element("main", *(_section(each) for each in shown)),
        element("footer", f"Written by caffe-ssd {__version__}. This file is complete in itself."),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def charts(figures: Sequence[Html], *, is_wide: bool = False) -> Html:
    """Charts beside one another as far as there is room; wide ones two in a row at most."""
    return element("div", *figures, class_="charts wide" if is_wide else "charts")


def cards(values: Sequence[tuple[str, str]]) -> Html:
    """Numbers to remember, the first one most: pairs of a value and what it is."""
    looks = ["card main"] + ["card"] * len(values)
    each = [
        element("div", element("b", value), element("span", what), class_=look)
        for look, (value, what) in zip(looks, values, strict=False)
    ]
    return element("div", *each, class_="cards")


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: int = 0) -> Html:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: names of the columns.
        rows: the cells.
        numbers: how many of the last columns hold numbers.
    """
    kinds = ["text"] * (len(head) - numbers) + ["number"] * numbers
    top = [element("th", cell, class_=kind) for cell, kind in zip(head, kinds, strict=True)]
    lines = [
        element("tr", *(element("td", c, class_=k) for c, k in zip(row, kinds, strict=True)))
        for row in rows
    ]
    whole = element("table", element("thead", element("tr", *top)), element("tbody", *lines))
    return element("div", whole, class_="scroll")


def facts(rows: Sequence[tuple[str, object]]) -> Html:
    """Pairs of a name and what is to be known of it."""
    lines = [
        element("tr", element("th", name, scope="row"), element("td", value, class_="text"))
        for name, value in rows
    ]
    return element(
        "div", element("table", element("tbody", *lines), class_="facts"), class_="scroll"
    )


def text(*words: object) -> Html:
    """A paragraph."""
    return element("p", *words)


def note(words: str) -> Html:
    """A paragraph in smaller letters."""
    return element("p", words, class_="note")


def warning(words: str) -> Html:
    """A paragraph that nobody may overlook."""
    return element("p", words, class_="warning", role="note")


def heading(words: str) -> Html:
    """A title within a section."""
    return element("h3", words)


def code(lines: str) -> Html:
    """Commands or a program, as they are typed."""
    return element("pre", element("code", lines))


def folded(summary: str, *content: object) -> Html:
    """What is shown when somebody asks for it."""
    return element("details", element("summary", summary), *content)


def colour_key(colours: Sequence[tuple[tuple[int, int, int], str]]) -> Html:
    """What colours in pictures stand for: pairs of a colour (blue, green, red) and a name."""
    entries = [
        element("span", element("i", style=f"background:rgb({red},{green},{blue})"), name)
        for (blue, green, red), name in colours
    ]
    return element("p", *entries, class_="key")


def gallery(pictures: Sequence[tuple[bytes, str, object]], *, is_large: bool = False) -> Html:
    """Pictures in a grid.

    Args:
        pictures: a JPEG file, what it shows in a sentence, and the caption.
        is_large: in their own shape rather than as squares.
    """
    figures = [
        element(
            "figure",
            element("img", src=jpeg_url(jpeg), alt=what, title=what, loading="lazy"),
            element("figcaption", caption),
        )
        for jpeg, what, caption in pictures
    ]
    return element("div", *figures, class_="gallery large" if is_large else "gallery")


def jpeg_url(jpeg: bytes) -> str:
    """A JPEG file as an address that holds all of it."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _section(section: Section) -> Html:
    return element("section", element("h2", section.title), join(section.content), id=section.key)


@cache
def _style() -> str:
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")
