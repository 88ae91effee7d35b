"""Blanks the fields of a protobuf text that its message does not know.

Files of other Caffe forks carry fields of their own; without them they often still mean the same.
Blanking keeps every line and column, so a later error points at the right place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<word>[\w.+-]+)
      | (?P<mark>.)""",
    re.VERBOSE,
)
_OPEN, _CLOSE = frozenset("{<["), frozenset("}>]")


@dataclass(frozen=True, kw_only=True)
class UnknownField:
    """One field that was blanked.

    Args:
        name: as written.
        message: full name of the message it stood in.
        line: counted from 1.
        column: counted from 1.
    """

    name: str
    message: str
    line: int
    column: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def blank_unknown_fields(text: str, root: Descriptor) -> tuple[str, tuple[UnknownField, ...]]:
    """Replace unknown fields by spaces, line ends kept.

    Text that is wrong otherwise passes through: the parser that follows complains about it.

    Args:
        text: protobuf text of the message `root`.
        root: the descriptor of that message.

    Returns:
        The blanked text, and what was blanked in order.
    """
    tokens = list(_tokens(text))
    pieces, unknown = [], []
    kept = 0
    for start, stop, message in _unknown_spans(tokens, root):
        begin, end = tokens[start].start, tokens[stop - 1].end
        pieces += [text[kept:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        kept = end
        line_start = text.rfind("\n", 0, begin) + 1
        field = UnknownField(
            name=tokens[start].text,
            message=message,
            line=text.count("\n", 0, begin) + 1,
            column=begin - line_start + 1,
        )
        unknown.append(field)
    return "".join([*pieces, text[kept:]]), tuple(unknown)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None and match.lastgroup != "skip":
            yield _Token(match.lastgroup, match.group(), match.start(), match.end())


def _unknown_spans(tokens: list[_Token], root: Descriptor) -> Iterator[tuple[int, int, str]]:
    """Token ranges of the unknown fields, each with the full name of its message."""
    inside = [root]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text in ("}", ">"):
            if len(inside) > 1:
                inside.pop()
            at += 1
        elif token.kind == "word":
            field = inside[-1].fields_by_name.get(token.text)
            stop = _value_end(tokens, at + 1)
            if stop is None:
                return  # a bracket that is never closed
            if field is None:
                yield at, stop, inside[-1].full_name
                at = stop
            elif field.message_type is not None and (body := _body(tokens, at + 1)):
                inside.append(field.message_type)
                at = body
            else:
                at = stop
        else:
            at += 1


def _body(tokens: list[_Token], at: int) -> int | None:
    """The index after the opening bracket of a message, or None where there is none."""
    if at < len(tokens) and tokens[at].text == ":":
        at += 1
    return at + 1 if at < len(tokens) and tokens[at].text in ("{", "<") else None


def _value_end(tokens: list[_Token], at: int) -> int | None:
    """The index after the value that starts at `at`, its colon and separator included.

    None if the value has no end.
    """
    if at < len(tokens) and tokens[at].text == ":":
        at += 1
    if at < len(tokens) and tokens[at].text in _OPEN and tokens[at].kind == "mark":
        depth = 0
        while at < len(tokens):
            if tokens[at].kind == "mark":
                depth += (tokens[at].text in _OPEN) - (tokens[at].text in _CLOSE)
            at += 1
            if depth == 0:
                break
        else:
            return None
    elif at < len(tokens) and tokens[at].kind == "string":
        while at < len(tokens) and tokens[at].kind == "string":  # adjacent strings are one value
            at += 1
    elif at < len(tokens) and tokens[at].kind == "word":
        at += 1
    if at < len(tokens) and tokens[at].text in (",", ";"):
        at += 1
    return at
