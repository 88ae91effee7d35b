"""Keywords of a layer in a NetSpec -> fields of its message, with complaints that help.

Spec: caffe-net.md section 16, "kwargs" and "value assignment".
Quirk: a keyword ending in `param` always goes to the layer message, any other first to the
    message of the layer's own type.
Quirk: only `list` is a list. A tuple is refused, and so is an empty list.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import LayerParameter


class UnknownFieldError(LayerParamError, AttributeError):
    """A keyword is no field of the message it should go to."""


class FieldValueError(LayerParamError, TypeError, ValueError):
    """A keyword's value does not fit its field."""


class EmptyListError(LayerParamError, IndexError):
    """A keyword's value is an empty list; leave the keyword out instead."""


@lru_cache(maxsize=1)
def own_param_fields() -> dict[str, str]:
    """Return the field of the message that belongs to a layer type: `Pooling` -> `pooling_param`.

    Types that borrow another's message (Deconvolution, SoftmaxWithLoss, ...) are absent.
    """
    return {
        field.message_type.name[: -len("Parameter")]: field.name
        for field in LayerParameter.DESCRIPTOR.fields
        if field.name.endswith("_param") and field.message_type is not None
    }


def set_keyword(layer: LayerParameter, key: str, value: Any) -> None:
    """Set one keyword on a layer message that has its name and type.

    Args:
        layer: changed in place.
        key: a field of the type's own message or of the layer message.
        value: a plain value, a dict for a message, or a list of either for a repeated field.

    Raises:
        UnknownFieldError: the keyword, or a key of a dict, is no field.
        FieldValueError: the value does not fit the field.
        EmptyListError: the value is an empty list.
    """
    own = own_param_fields().get(layer.type)
    if own is not None and not key.endswith("param"):
        message: Message = getattr(layer, own)
        if key in message.DESCRIPTOR.fields_by_name:
            _assign(message, key, value, layer, key)
            return
    if key not in LayerParameter.DESCRIPTOR.fields_by_name:
        raise UnknownFieldError(
            _unknown_keyword(layer.type, key, own), layer=layer.name, layer_type=layer.type
        )
    _assign(layer, key, value, layer, key)


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set a field of any message as keywords of layers are set; see `set_keyword`.

    Args:
        proto: changed in place.
        name: of the field.
        val: a plain value, a dict for a message, or a list of either for a repeated field.
    """
    _assign(proto, name, val, LayerParameter(), name)


def _assign(message: Message, key: str, value: Any, layer: LayerParameter, path: str) -> None:
    """Set a field from a value, a list, a dict or lists of dicts; `path` is for complaints."""
    field = message.DESCRIPTOR.fields_by_name.get(key)
    if field is None:
        text = f"{path}: {_unknown_field(message.DESCRIPTOR, key)}"
        raise UnknownFieldError(text, layer=layer.name, layer_type=layer.type)
    if isinstance(value, list) and not value:
        text = f"{path} is an empty list; leave it out instead"
        raise EmptyListError(text, layer=layer.name, layer_type=layer.type)
    try:
        if _is_repeated(field):
            _extend(getattr(message, key), value, layer, path)
        elif isinstance(value, dict):
            _assign_all(getattr(message, key), value, layer, path)
        else:
            setattr(message, key, value)
    except LayerParamError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        hint = "write a list, not a tuple" if isinstance(value, tuple) else error
        text = f"{path} = {value!r} does not fit: {_field_type(field)} expected ({hint})"
        raise FieldValueError(text, layer=layer.name, layer_type=layer.type) from error


def _extend(repeated: Any, value: Any, layer: LayerParameter, path: str) -> None:
    values = value if isinstance(value, list) else [value]
    if not isinstance(values[0], dict):
        repeated.extend(values)
        return
    for index, item in enumerate(values):
        _assign_all(repeated.add(), item, layer, f"{path}[{index}]")


def _assign_all(message: Any, value: Mapping[str, Any], layer: LayerParameter, path: str) -> None:
    if not isinstance(message, Message):
        raise TypeError("this field holds no message")
    for key, item in value.items():
        _assign(message, key, item, layer, f"{path}.{key}")


def _is_repeated(field: Any) -> bool:
    # protobuf 6 replaced `label` by `is_repeated`; the oldest that we allow knows only `label`.
    flag = getattr(field, "is_repeated", None)
    return bool(field.label == field.LABEL_REPEATED) if flag is None else bool(flag)


def _field_type(field: Any) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(field.enum_type.values_by_name)}"
    if field.message_type is not None:
        kind = "a dict of fields of " + field.message_type.name
    else:
        kind = {
            FieldDescriptor.CPPTYPE_STRING: "text",
            FieldDescriptor.CPPTYPE_BOOL: "True or False",
            FieldDescriptor.CPPTYPE_FLOAT: "a number",
            FieldDescriptor.CPPTYPE_DOUBLE: "a number",
        }.get(field.cpp_type, "an integer")
    return f"{kind} or a list of such" if _is_repeated(field) else kind


def _unknown_field(descriptor: Any, key: str) -> str:
    known = sorted(descriptor.fields_by_name)
    close = get_close_matches(key, known, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else f"its fields: {', '.join(known)}"
    return f"{descriptor.name} has no field {key!r}; {hint}"


def _unknown_keyword(type_name: str, key: str, own: str | None) -> str:
    """Say which keyword was probably meant."""
    layer_fields: Mapping[str, Any] = LayerParameter.DESCRIPTOR.fields_by_name
    if own is None:
        holders = [
            f"{name}=dict({key}=...)"
            for name, field in layer_fields.items()
            if field.message_type is not None and key in field.message_type.fields_by_name
        ]
        where = f"write {' or '.join(holders[:3])}" if holders else "no layer message has it"
        return f"unknown keyword {key!r}: {type_name} has no message of its own; {where}"
    descriptor = layer_fields[own].message_type
    if key in descriptor.fields_by_name:
        return f"keyword {key!r} must be written {own}=dict({key}=...)"
    close = get_close_matches(key, [*descriptor.fields_by_name, *layer_fields], n=3)
    known = ", ".join(sorted(descriptor.fields_by_name))
    hint = f"did you mean {', '.join(close)}?" if close else f"{descriptor.name} has {known}"
    return f"unknown keyword {key!r}; {hint}"
