"""HTML and SVG elements that are safe by construction: text is escaped, markup is a type.

Whatever comes from a user's file is plain `str` and can only become text; `Html` is made by
`element` and `join` alone.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = frozenset(("img", "meta", "br", "col"))


class Html(str):
    """Markup that stands as it is."""

    __slots__ = ()


def element(tag: str, *content: object, **attributes: object) -> Html:
    """An element of HTML or SVG.

    Args:
        tag: its name.
        content: `Html` stands as it is; everything else becomes text.
        attributes: `class_` is class, `stroke_width` is stroke-width; None leaves one out.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is not None:
            name = name.rstrip("_").replace("_", "-")
            parts.append(f' {name}="{html.escape(_plain(value), quote=True)}"')
    parts.append(">")
    if tag in _VOID:
        return Html("".join(parts))
    return Html("".join((*parts, join(content), f"</{tag}>")))


def join(content: Iterable[object]) -> Html:
    """One after the other; what is not `Html` is escaped."""
    return Html(
        "".join(
            each if isinstance(each, Html) else html.escape(_plain(each), quote=False)
            for each in content
        )
    )


def _plain(value: object) -> str:
    """Numbers as short as pictures need them; characters that XML and HTML forbid are shown."""
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in str(value))
