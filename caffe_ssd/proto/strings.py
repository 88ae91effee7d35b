"""Texts of binary messages that are not UTF-8, which protobuf hands over as bytes."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_ssd.proto.caffe_pb2 import BlobProto


def mend_strings(message: Message) -> None:
    """Make every text of a message text, in place: bytes that are not UTF-8 become U+FFFD.

    Names of layers in files written elsewhere may be in any encoding; whoever compares or shows
    them must not stumble over bytes.
    """
    if isinstance(message, BlobProto):  # has no texts, and much else
        return
    for field, value in message.ListFields():
        repeated = not isinstance(value, str | bytes | Message | int | float)
        if field.type == FieldDescriptor.TYPE_STRING:
            _mend_field(message, field.name, value, repeated=repeated)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if repeated else [value]:
                mend_strings(part)


def _mend_field(message: Message, name: str, value: Any, *, repeated: bool) -> None:
    if not repeated:
        if isinstance(value, bytes):
            setattr(message, name, _text(value))
        return
    for index, each in enumerate(value):
        if isinstance(each, bytes):
            value[index] = _text(each)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
