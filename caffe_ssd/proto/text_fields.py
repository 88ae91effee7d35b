"""Walks the fields of a protobuf text with their places, without building the message.

The parser proper forgets where a field stood; what wants to point at one, or to blank one, comes
here. A text that is wrong is walked as far as it makes sense: the parser complains about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_TOKEN = re.compile(
    r"""(?P<skip>\s+|\#[^\n]*)
      | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<word>[\w.+-]+)
      | (?P<mark>.)""",
    re.VERBOSE,
)
_OPEN, _CLOSE = frozenset("{<["), frozenset("}>]")


@dataclass(frozen=True, kw_only=True)
class TextField:
    """One field as written.

    Args:
        name: as written.
        value: as written, up to the first space; empty for a message.
        message: the message it stands in.
        field: what the message knows of it; None if it does not know it.
        parent: the field that holds that message; None at the top.
        begin: where the name begins in the text.
        end: behind the value; for a message that is known, behind its opening bracket.
    """

    name: str
    value: str
    message: Descriptor
    field: FieldDescriptor | None
    parent: TextField | None
    begin: int
    end: int


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def walk_fields(text: str, root: Descriptor) -> Iterator[TextField]:
    """Every field in order; what stands inside unknown fields is left out.

    Args:
        text: protobuf text of the message `root`.
        root: the descriptor of that message.
    """
    tokens = list(_tokens(text))
    inside: list[tuple[Descriptor, TextField | None]] = [(root, None)]
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text in ("}", ">"):
            if len(inside) > 1:
                inside.pop()
            at += 1
        elif token.kind == "word":
            stop = _value_end(tokens, at + 1)
            if stop is None:
                return  # a bracket that is never closed
            message, parent = inside[-1]
            field = message.fields_by_name.get(token.text)
            inner = None if field is None else field.message_type
            body = None if inner is None else _body(tokens, at + 1)
            stop = stop if body is None else body
            written = TextField(
                name=token.text,
                value="" if body is not None else _value(tokens, at + 1),
                message=message,
                field=field,
                parent=parent,
                begin=token.start,
                end=tokens[stop - 1].end,
            )
            yield written
            if inner is not None and body is not None:
                inside.append((inner, written))
            at = stop
        else:
            at += 1


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a place, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup is not None and match.lastgroup != "skip":
            yield _Token(match.lastgroup, match.group(), match.start(), match.end())


def _value(tokens: list[_Token], at: int) -> str:
    """The first word or string after an optional colon, without quotes; empty if there is none."""
    if at < len(tokens) and tokens[at].text == ":":
        at += 1
    if at == len(tokens) or tokens[at].kind == "mark":
        return ""
    token = tokens[at]
    return token.text[1:-1] if token.kind == "string" else token.text


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
