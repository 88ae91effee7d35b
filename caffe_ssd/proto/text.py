"""Protobuf text (prototxt) in and out, with errors that point at the place.

Spec: caffe-net.md section 2; the solver's fields are in caffe-solver.md section 0.
Quirk: reading is strict, as the reference's is: an unknown field is an error. `lenient` skips those
that cannot change a result.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar, cast

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from caffe_ssd.errors import ProtoError, SolverError
from caffe_ssd.files import atomic_write
from caffe_ssd.files import read_text as read_file
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.lenient import (
    Lenience,
    Lenient,
    UnknownField,
    as_lenience,
    blank_unknown_fields,
    kept_fields,
)
from caffe_ssd.proto.upgrade import upgrade_net_in_place, upgrade_solver_in_place

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
MessageT = TypeVar("MessageT", bound=Message)

_POSITION = re.compile(r"^\d+:\d+ : ")
_ECHO = re.compile(r"^'.*': (?=\S)")
_NO_FIELD = re.compile(r'Message type "(?P<message>[\w.]+)" has no field named "(?P<name>\w+)"')
_NO_VALUE = re.compile(r'Enum type "(?P<enum>[\w.]+)" has no value named (?P<name>\w+)')


def read_text(path: PathLike, message: MessageT, *, lenient: Lenient = False) -> MessageT:
    """Fill a message from a text file; see `parse_text`.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: the text is wrong; begins with `file:line:column:`.
    """
    # Comments in other encodings are common; such bytes inside a value are refused later.
    text = read_file(path, errors="surrogateescape")
    return parse_text(text, message, source=os.fspath(path), lenient=lenient)


def parse_text(
    text: str, message: MessageT, source: str = "<text>", *, lenient: Lenient = False
) -> MessageT:
    """Add the fields of a text to a message.

    Args:
        text: protobuf text.
        message: receives the fields; on an error it may hold some of them.
        source: where the text comes from, for errors.
        lenient: skip unknown fields that cannot change a result, or that are named, with one
            warning per field.

    Returns:
        `message`.

    Raises:
        ProtoError: a syntax error, an unknown field or a bad value; begins with
            `source:line:column:`.
    """
    lenience = as_lenience(lenient)
    if lenience:
        text = _without_unknown_fields(text, message, source, lenience)
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ProtoError(_describe(error, message, source)) from error
    except RecursionError as error:
        raise ProtoError(f"{source}: messages are nested too deep") from error
    # A value or name that is not UTF-8, or a number of thousands of digits.
    except (UnicodeError, ValueError, TypeError, OverflowError) as error:
        raise ProtoError(f"{source}: {error}") from error
    except SystemError as error:  # protobuf's own stumble over a name that is not UTF-8
        raise ProtoError(f"{source}: holds a name that is not UTF-8") from error


def write_text(path: PathLike, message: Message) -> None:
    """Write a message as text; the file appears whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    atomic_write(path, format_text(message))


def format_text(message: Message) -> str:
    """A message as protobuf text: fields in numeric order, UTF-8 kept readable."""
    return str(text_format.MessageToString(message, as_utf8=True))


def read_net(path: PathLike, *, lenient: Lenient = False) -> NetParameter:
    """Read a net definition and bring it up to date (old V0 and V1 files too).

    Raises:
        FileError: the file cannot be opened.
        ProtoError: the text is wrong or cannot be upgraded; names the file.
    """
    net = read_text(path, NetParameter(), lenient=lenient)
    try:
        upgrade_net_in_place(net)
    except ProtoError as error:
        raise ProtoError(f"{os.fspath(path)}: {error}") from error
    return net


def read_solver(path: PathLike, *, lenient: Lenient = False) -> SolverParameter:
    """Read a solver definition; the deprecated `solver_type` becomes `type`.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: the text is wrong; names the file.
        SolverError: both `type` and `solver_type` are given; names the file.
    """
    solver = read_text(path, SolverParameter(), lenient=lenient)
    with naming_solver(path):
        upgrade_solver_in_place(solver)
    return solver


@contextmanager
def naming_solver(path: PathLike) -> Iterator[None]:
    """Adds the solver's file to an error about its settings that passes through."""
    try:
        yield
    except SolverError as error:
        raise SolverError(f"{os.fspath(path)}: {error}") from error


def _describe(error: text_format.ParseError, message: Message, source: str) -> str:
    line, column = error.GetLine(), error.GetColumn()
    what = _ECHO.sub("", _POSITION.sub("", str(error)))
    if "surrogates not allowed" in what:
        what = "the value is not UTF-8 text"
    where = source if line is None else f"{source}:{line}:{column}"
    return f"{where}: {what}{_hint(what, cast(Descriptor, message.DESCRIPTOR))}"


def _hint(what: str, root: Descriptor) -> str:
    """What the writer may have meant, as the end of a sentence; empty if nothing comes close."""
    pool = root.file.pool
    if match := _NO_FIELD.search(what):
        fields = [field.name for field in pool.FindMessageTypeByName(match["message"]).fields]
        close = get_close_matches(match["name"], fields, n=3)
        return f" Did you mean {' or '.join(close)}?" if close else f" Known: {', '.join(fields)}."
    if match := _NO_VALUE.search(what):
        values = pool.FindEnumTypeByName(match["enum"]).values_by_name
        return f" Allowed: {', '.join(values)}."
    return ""


def _without_unknown_fields(text: str, message: Message, source: str, lenience: Lenience) -> str:
    root = cast(Descriptor, message.DESCRIPTOR)
    for name in kept_fields(text, root, lenience):
        logger.warning("%s: %s is known here and keeps its meaning (-skip)", source, name)
    text, unknown = blank_unknown_fields(text, root, lenience)
    by_name: dict[tuple[str, str, str], UnknownField] = {}
    for field in unknown:
        by_name.setdefault((field.message, field.name, field.why), field)
    faults = [
        f"{_place(field, source)}: {_fault(field)}" for field in by_name.values() if not field.why
    ]
    if faults and lenience.harmless:
        raise ProtoError("\n  ".join(faults))
    for field in by_name.values():
        if field.why:
            what = f"skipped unknown field {field.name} of {field.message}"
            logger.warning("%s: %s (%s)", _place(field, source), what, field.why)
    return text


def _place(field: UnknownField, source: str) -> str:
    return f"{source}:{field.line}:{field.column}"


def _fault(field: UnknownField) -> str:
    return (
        f"unknown field {field.name} of {field.message} may change results, so -lenient does not "
        f"skip it; if it is of no account, give -skip {field.name}"
    )
