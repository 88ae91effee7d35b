"""The schema is the reference's, and the generated module is the schema's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2 as pb

from caffe_ssd.proto import caffe_pb2
from caffe_ssd.proto.extensions import FIRST_NUMBER, is_extension
from tests.proto.schema_reader import read_schema
from tests.support.golden import GOLDEN

Field = pb.FieldDescriptorProto
SOURCE = Path(caffe_pb2.__file__).with_name("caffe.proto")


def compiled() -> pb.FileDescriptorProto:
    return plain_floats(pb.FileDescriptorProto.FromString(caffe_pb2.DESCRIPTOR.serialized_pb))


def original() -> pb.FileDescriptorProto:
    """The compiled schema without its extensions: fields, values, and types only these use."""
    file = compiled()
    added: set[str] = set()
    for message in file.message_type:
        fields = caffe_pb2.DESCRIPTOR.message_types_by_name[message.name].fields_by_name
        extra = [field for field in message.field if is_extension(fields[field.name])]
        added.update(field.type_name for field in extra)
        for field in extra:
            message.field.remove(field)
    used = {field.type_name for message in file.message_type for field in message.field}
    added -= used
    for message in [m for m in file.message_type if f".caffe.{m.name}" in added]:
        file.message_type.remove(message)
    for message in file.message_type:
        for enum in [e for e in message.enum_type if f".caffe.{message.name}.{e.name}" in added]:
            message.enum_type.remove(enum)
        for enum in message.enum_type:
            for value in [v for v in enum.value if v.number >= FIRST_NUMBER]:
                enum.value.remove(value)
    return file


def plain_floats(file: pb.FileDescriptorProto) -> pb.FileDescriptorProto:
    """Defaults in their shortest form: some versions of protobuf say 9.99999994e-09 for 1e-08."""
    for message in file.message_type:
        for field in message.field:
            if field.HasField("default_value") and field.type == Field.TYPE_FLOAT:
                shortest = float(str(np.float32(field.default_value)))
                field.default_value = f"{shortest:.9g}"
    return file


def as_recorded(field: pb.FieldDescriptorProto) -> dict[str, object]:
    facts: dict[str, object] = {
        "name": field.name,
        "number": field.number,
        "label": Field.Label.Name(field.label).removeprefix("LABEL_").lower(),
        "type": Field.Type.Name(field.type).removeprefix("TYPE_").lower(),
    }
    if field.type_name:
        facts["type_name"] = field.type_name.removeprefix(".")
    if field.HasField("default_value"):
        facts["default"] = field.default_value
    for option, value in field.options.ListFields():
        facts[option.name] = value
    return facts


def test_messages_and_enums_are_the_references() -> None:
    recorded = json.loads((GOLDEN / "proto" / "schema.json").read_text())
    file = original()
    messages = {f"{file.package}.{message.name}": message for message in file.message_type}
    assert (file.package, file.name) == (recorded["package"], recorded["file"])
    assert list(messages) == [message["name"] for message in recorded["messages"]]
    for want in recorded["messages"]:
        have = [as_recorded(field) for field in messages[want["name"]].field]
        assert have == want["fields"], want["name"]
    enums = [(f"{file.package}.{enum.name}", enum) for enum in file.enum_type]
    for name, message in messages.items():
        enums += [(f"{name}.{enum.name}", enum) for enum in message.enum_type]
    have_values = {name: [(v.name, v.number) for v in enum.value] for name, enum in enums}
    want_values = {
        enum["name"]: [(v["name"], v["number"]) for v in enum["values"]]
        for enum in recorded["enums"]
    }
    assert list(have_values.items()) == list(want_values.items())


def test_inventory() -> None:
    file = original()
    assert len(file.message_type) == 86
    assert sum(len(message.field) for message in file.message_type) == 583
    assert len(file.enum_type) + sum(len(m.enum_type) for m in file.message_type) == 36
    assert not any(m.nested_type or m.extension or m.oneof_decl for m in file.message_type)


def test_numbers_of_layer_parameter() -> None:
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    numbers = sorted(field.number for field in fields.values())
    extensions = [number for number in numbers if number >= FIRST_NUMBER]
    numbers = numbers[: len(numbers) - len(extensions)]
    assert numbers == [*range(1, 9), *range(8 + 1, 12), *range(100, 147), *range(200, 208)]
    some = {
        "blobs": 7,
        "include": 8,
        "phase": 10,
        "convolution_param": 106,
        "batch_norm_param": 139,
        "annotated_data_param": 200,
        "multibox_loss_param": 201,
        "prior_box_param": 203,
        "norm_param": 206,
        "group_norm_param": 10001,
    }
    assert {name: fields[name].number for name in some} == some


def test_generated_module_is_up_to_date() -> None:
    assert plain_floats(read_schema(SOURCE.read_text(), "caffe.proto")) == compiled()
