"""What this program adds to SSD-Caffe's format, and where a file uses it.

Extensions are fields with numbers from `FIRST_NUMBER` up, far above the original's, and the layer
types of `LAYER_TYPES`. The original refuses a prototxt that uses them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from caffe_ssd.errors import FileError, ProtoError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter
from caffe_ssd.proto.text_fields import TextField, position, walk_fields

PathLike = str | os.PathLike[str]

FIRST_NUMBER = 10_000
LAYER_TYPES = frozenset({"GroupNorm"})

_MOST_TOLD = 10


@dataclass(frozen=True, kw_only=True)
class Extension:
    """One use of an extension.

    Args:
        what: `type: "GroupNorm"`, or the name of a field.
        layer: name of the layer it stands in; None outside of layers.
        line: counted from 1; None where there is no text.
        column: likewise.
    """

    what: str
    layer: str | None
    line: int | None = None
    column: int | None = None

    def describe(self, path: PathLike) -> str:
        """One line that says where it is."""
        where = os.fspath(path)
        if self.line is not None:
            where = f"{where}:{self.line}:{self.column}"
        layer = "" if self.layer is None else f"layer {self.layer!r}: "
        return f"{where}: {layer}{self.what}"


def extensions_in(message: Message, layer: str | None = None) -> Iterator[Extension]:
    """Every extension that a message uses, in numeric order of the fields.

    Args:
        message: a net, a solver, a layer...
        layer: name of the layer that the message is part of.
    """
    if isinstance(message, LayerParameter):
        layer = message.name
        if message.type in LAYER_TYPES:
            yield Extension(what=_type(message.type), layer=layer)
    for field, value in message.ListFields():
        if field.number >= FIRST_NUMBER:
            yield Extension(what=field.name, layer=layer)
        elif field.message_type is not None:
            for part in value if isinstance(value, Iterable) else [value]:
                yield from extensions_in(part, layer)


def extensions_in_text(text: str, root: Descriptor) -> list[Extension]:
    """Every extension that a protobuf text uses, in order.

    Args:
        text: protobuf text.
        root: the message it describes.
    """
    names: dict[int, str] = {}  # by the place of a layer's field
    uses: list[tuple[str, TextField]] = []
    for written in walk_fields(text, root):
        parent = written.parent
        if parent is not None and _is_layer(written.message):
            if written.name == "name":
                names[parent.begin] = written.value
            if written.name == "type" and written.value in LAYER_TYPES:
                uses.append((_type(written.value), written))
        if _is_extension(written.field):
            uses.append((written.name, written))
    found = []
    for what, written in uses:
        line, column = position(text, written.begin)
        layer = _layer_of(written)
        name = None if layer is None else names.get(layer.begin, "")
        found.append(Extension(what=what, layer=name, line=line, column=column))
    return found


def summary(uses: Iterable[Extension]) -> str:
    """What is used how often, in a few words; empty if nothing is."""
    counts = Counter(use.what for use in uses)
    return ", ".join(f"{what} ({count})" for what, count in counts.items())


def refuse_in_text(path: PathLike) -> None:
    """Refuse the prototxt of a net that uses extensions.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it uses some; names line, layer and field of each.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise FileError(f"Could not open file {os.fspath(path)}: {error.strerror}") from error
    _refuse(path, extensions_in_text(text, cast(Descriptor, NetParameter.DESCRIPTOR)))


def refuse_in_message(path: PathLike, message: Message) -> None:
    """Refuse a message that uses extensions.

    Args:
        path: where it comes from.
        message: see `extensions_in`.

    Raises:
        ProtoError: it uses some; names layer and field of each.
    """
    _refuse(path, list(extensions_in(message)))


def _refuse(path: PathLike, uses: list[Extension]) -> None:
    if not uses:
        return
    lines = [use.describe(path) for use in uses[:_MOST_TOLD]]
    if len(uses) > _MOST_TOLD:
        lines.append(f"... and {len(uses) - _MOST_TOLD} more")
    lines[0] += " is an extension that the original SSD-Caffe does not know"
    raise ProtoError("\n".join(lines))


def _type(name: str) -> str:
    return f'type: "{name}"'


def _is_layer(message: Descriptor) -> bool:
    return message.full_name == LayerParameter.DESCRIPTOR.full_name


def _is_extension(field: FieldDescriptor | None) -> bool:
    return field is not None and field.number >= FIRST_NUMBER


def _layer_of(written: TextField) -> TextField | None:
    """The field that holds the layer around another field."""
    around: TextField | None = written
    while around is not None and not _is_layer(around.message):
        around = around.parent
    return None if around is None else around.parent
