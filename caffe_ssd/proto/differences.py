"""What two messages of one type differ in, field by field."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

_MOST_SHOWN = 60  # characters of one value


@dataclass(frozen=True)
class Difference:
    """One field with two values.

    Args:
        path: names of the fields that lead to it, the outermost first.
        old: its value in the first message, as text.
        new: its value in the second one.
    """

    path: tuple[str, ...]
    old: str
    new: str

    def describe(self) -> str:
        """`data_param.batch_size was 8, is 16`."""
        return f"{'.'.join(self.path)} was {self.old}, is {self.new}"


def differences(old: Message, new: Message, path: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Every field that differs, in the order of the schema.

    A field that is not set counts as set to its default.

    Args:
        old: a message.
        new: another one of the same type.
        path: what leads to them.
    """
    for field in old.DESCRIPTOR.fields:
        before, after = getattr(old, field.name), getattr(new, field.name)
        here = (*path, field.name)
        if isinstance(before, MutableSequence):
            if list(before) != list(after):
                yield Difference(here, _list_text(field, before), _list_text(field, after))
        elif field.message_type is not None:
            if old.HasField(field.name) or new.HasField(field.name):
                yield from differences(before, after, here)
        elif before != after:
            yield Difference(here, _text(field, before), _text(field, after))


def _list_text(field: Any, values: Any) -> str:
    if field.message_type is not None:
        values = [" ".join(str(value).split()) for value in values]
        text = ", ".join(f"{{ {value} }}" for value in values)
    else:
        text = ", ".join(_text(field, value) for value in values)
    return f"[{_short(text)}]"


def _text(field: Any, value: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
