"""XML and JSON from files that may be damaged or hostile: every fault is a DataError.

What a small file could blow up is limited: the depth of nesting, the digits of a number, and in XML
entities, which may double each other. Numbers are finite.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from caffe_ssd.errors import DataError

MAX_DEPTH = 64
MAX_DIGITS = 400
"""A double printed in full has 309 digits before its point."""

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z][\w.:-]*)["']""")
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_UNMARKED = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))


def parse_xml(data: bytes, source: str) -> ElementTree.Element:
    """The root element of an XML document in any text encoding that Python knows.

    Args:
        data: the document.
        source: where it comes from, for errors.

    Raises:
        DataError: it is damaged, declares entities, or is nested more than `MAX_DEPTH` deep.
    """
    text = _xml_text(data, source)
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise DataError(f"{source}: its elements are nested more than {MAX_DEPTH} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def entity(name: str, *_: object) -> None:
        raise DataError(f"{source}: declares an entity, {name!r}; annotations need none")

    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(text, True)
        return builder.close()
    except (expat.ExpatError, UnicodeError, AssertionError) as error:
        raise DataError(f"{source}: not a readable XML file: {error}") from error


def parse_json(data: bytes | str, source: str, *, numbers_as_text: bool = False) -> Any:
    """The content of a JSON document.

    Args:
        data: the document; bytes in UTF-8, UTF-16 or UTF-32.
        source: where it comes from, for errors.
        numbers_as_text: leave numbers as they are written.

    Raises:
        DataError: it is damaged, nested too deep, or holds a number that is not finite.
    """
    integer, real = (str, str) if numbers_as_text else (_integer, _real)
    try:
        return json.loads(data, parse_int=integer, parse_float=real, parse_constant=_refuse)
    except RecursionError as error:
        raise DataError(f"{source}: not a readable JSON file: nested too deep") from error
    except ValueError as error:
        raise DataError(f"{source}: not a readable JSON file: {error}") from error


def _xml_text(data: bytes, source: str) -> str:
    """Expat knows one multi-byte encoding; Python knows those that people use."""
    encoding, start = "utf-8", 0
    if match := _DECLARED.match(data):
        encoding = match[1].decode()
    for mark, name in _MARKS:
        if data.startswith(mark):
            encoding, start = name, len(mark)
    for mark, name in _UNMARKED:
        if data.startswith(mark):
            encoding = name
    try:
        return data[start:].decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise DataError(f"{source}: not a readable XML file: {error}") from error


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is not finite")
    return value


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
