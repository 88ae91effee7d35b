"""Blanks the fields of a protobuf text that its message does not know.

Files of other Caffe forks carry fields of their own; without them they often still mean the same.
Blanking keeps every line and column, so a later error points at the right place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor

from caffe_ssd.proto.text_fields import position, walk_fields


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


def blank_unknown_fields(text: str, root: Descriptor) -> tuple[str, tuple[UnknownField, ...]]:
    """Replace unknown fields by spaces, line ends kept.

    Text that is wrong otherwise passes through: the parser that follows complains about it.

    Args:
        text: protobuf text of the message `root`.
        root: the descriptor of that message.

    Returns:
        The blanked text, and what was blanked in order.
    """
    pieces, unknown = [], []
    kept = 0
    for written in walk_fields(text, root):
        if written.field is not None:
            continue
        begin, end = written.begin, written.end
        pieces += [text[kept:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        kept = end
        line, column = position(text, begin)
        unknown.append(
            UnknownField(
                name=written.name, message=written.message.full_name, line=line, column=column
            )
        )
    return "".join([*pieces, text[kept:]]), tuple(unknown)
