"""Reads the subset of the .proto language that caffe.proto uses, without protoc.

It lets a test see whether the generated module still says what the source says.
"""

from __future__ import annotations

import re

from google.protobuf import descriptor_pb2 as pb

_TOKEN = re.compile(r'"[^"]*"|[\w.+-]+|[{}\[\]=;,]')
_LABELS = {"optional": pb.FieldDescriptorProto.LABEL_OPTIONAL, "repeated": 3}


def read_schema(text: str, name: str) -> pb.FileDescriptorProto:
    """The descriptor of a proto2 source text."""
    tokens = iter(_TOKEN.findall(re.sub(r"//[^\n]*", "", text)))
    file = pb.FileDescriptorProto(name=name)
    for token in tokens:
        if token == "syntax":
            _expect(tokens, "=", '"proto2"', ";")
        elif token == "package":
            file.package = next(tokens)
            _expect(tokens, ";")
        elif token == "enum":
            _read_enum(tokens, file.enum_type.add())
        elif token == "message":
            _read_message(tokens, file.message_type.add())
        else:
            raise ValueError(f"unexpected {token!r}")
    _resolve(file)
    return file


def _expect(tokens, *wanted):
    for want in wanted:
        have = next(tokens)
        assert have == want, (have, want)


def _read_enum(tokens, enum):
    enum.name = next(tokens)
    _expect(tokens, "{")
    while (name := next(tokens)) != "}":
        _expect(tokens, "=")
        enum.value.add(name=name, number=int(next(tokens)))
        _expect(tokens, ";")


def _read_message(tokens, message):
    message.name = next(tokens)
    _expect(tokens, "{")
    while (token := next(tokens)) != "}":
        if token == "enum":
            _read_enum(tokens, message.enum_type.add())
        else:
            _read_field(tokens, token, message.field.add())


def _read_field(tokens, label, field):
    field.label = _LABELS[label]
    kind = next(tokens)
    if hasattr(pb.FieldDescriptorProto, f"TYPE_{kind.upper()}"):
        field.type = pb.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type_name = kind
    field.name = next(tokens)
    _expect(tokens, "=")
    field.number = int(next(tokens))
    while (token := next(tokens)) != ";":
        if token in "[,]":
            continue
        _expect(tokens, "=")
        value = next(tokens)
        if token == "default":
            field.default_value = value.strip('"')
        else:
            setattr(field.options, token, value == "true")


def _resolve(file):
    enums = {f".{file.package}.{enum.name}" for enum in file.enum_type}
    for message in file.message_type:
        enums |= {f".{file.package}.{message.name}.{enum.name}" for enum in message.enum_type}
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = f".{file.package}.{field.type_name}"
                is_enum = field.type_name in enums
                field.type = 14 if is_enum else 11
