"""Writes docs/layers.md, a reference of all layer types: registry, schema and docstrings.

python docs/make_layers.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from caffe_ssd import layers
from caffe_ssd.errors import CaffeError
from caffe_ssd.files import atomic_write
from caffe_ssd.layers.registry import MANY, LayerType, layer_type, layer_types, variants
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from caffe_ssd.proto.extensions import LAYER_TYPES, is_extension

_PACKAGE = "caffe_ssd.layers."
TARGET = Path(__file__).with_name("layers.md")
FOLDER = Path(layers.__file__).parent

FAMILIES = {
    "Detection": "PriorBox MultiBoxLoss DetectionOutput DetectionEvaluate Normalize Permute "
    "SmoothL1Loss",
    "Data": "AnnotatedData Data ImageData VideoData WindowData HDF5Data MemoryData DummyData Input "
    "Parameter",
    "Convolution and pooling": "Convolution Deconvolution Pooling SPP Im2col Crop",
    "Fully connected": "InnerProduct Embed",
    "Normalisation": "BatchNorm LRN MVN Scale Bias",
    "Activations": "ReLU PReLU ELU Sigmoid TanH BNLL AbsVal Exp Log Power Threshold Dropout",
    "Shape and routing": "Concat Slice Split Eltwise Flatten Reshape Tile Reduction Filter "
    "BatchReindex Silence",
    "Recurrent": "RNN LSTM LSTMUnit",
    "Losses and scores": "SoftmaxWithLoss SigmoidCrossEntropyLoss EuclideanLoss HingeLoss "
    "ContrastiveLoss InfogainLoss MultinomialLogisticLoss Softmax Accuracy ArgMax",
    "Python and output": "Python HDF5Output",
}
# Types and variants that the original does not have; see docs/extensions.md.
EXTENSIONS = "Extensions"

HEAD = """\
# Layers

All layer types, by family, then the messages of their settings. `make docs` writes this page from
the code; a test fails when it is out of date.

*Bottoms* and *tops* are the numbers a layer takes. *Loss*: its top 0 has loss weight 1 unless the
prototxt says otherwise. *Backward*: **no** means that a backward pass that reaches the layer is an
error; a bottom in brackets is one that `force_backward` does not reach. *Quirks* are what the
original does and one might not expect; they are kept. What the original does not have is the last
family, *Extensions*; [extensions.md](extensions.md) says from which fork each type and field is.
"""


def document() -> str:
    """The text of docs/layers.md.

    Raises:
        CaffeError: a type belongs to no family, or a family names an unknown type.
    """
    named = {name for names in FAMILIES.values() for name in names.split()} | LAYER_TYPES
    if wrong := named ^ set(layer_types()):
        raise CaffeError(
            f"FAMILIES of docs/make_layers.py must name every layer type once; see to: "
            f"{', '.join(sorted(wrong))}"
        )
    families = "".join(
        _family(title, map(layer_type, names.split())) for title, names in FAMILIES.items()
    )
    added = [layer_type(name) for name in LAYER_TYPES]
    added += [kind for name in layer_types() for kind in variants(name)]
    families += _family(EXTENSIONS, sorted(added, key=lambda kind: (kind.name, kind.told_by)))
    return f"{HEAD}\n{families}## Messages\n\n{_messages()}".rstrip() + "\n"


def _family(title: str, types: Iterable[LayerType]) -> str:
    kinds = list(types)
    lines = [
        f"## {title}\n",
        "| type | what it does | bottoms | tops | loss | backward | settings |",
        "|---|---|---|---|---|---|---|",
        *map(_row, kinds),
        "",
    ]
    for kind in kinds:
        if quirks := list(_quirks(_source(kind))):
            lines += [
                f"**{kind.name}**{_told(kind)}, quirks:\n",
                *(f"- {quirk}" for quirk in quirks),
                "",
            ]
    return "\n".join(lines) + "\n"


def _row(kind: LayerType) -> str:
    path = _source(kind)
    summary = _docstring(path).split("\n\n")[0].replace("\n", " ").split(": ", 1)[-1].rstrip(".")
    settings = "<br>".join(f"[{name}](#{_anchor(name)})" for name in _settings(path))
    cells = (
        f"[{kind.name}](../caffe_ssd/layers/{path.relative_to(FOLDER)}){_told(kind)}",
        summary,
        _numbers(kind.bottoms),
        _numbers(kind.tops),
        "yes" if kind.is_loss else "",
        _backward(kind),
        settings,
    )
    return f"| {' | '.join(cells)} |"


def _told(kind: LayerType) -> str:
    return f" with {kind.told_by}" if kind.told_by else ""


def _numbers(allowed: range) -> str:
    if allowed.stop == MANY:
        return f"{allowed.start} or more" if allowed.start else "any number"
    return " or ".join(map(str, allowed))


def _backward(kind: LayerType) -> str:
    if not kind.has_backward:
        return "**no**"
    if kind.bottoms.stop == 1:
        return ""  # nothing to send it to
    held = "".join(f" ({i})" for i in sorted(kind.not_forced))
    return f"yes{held}"


# What a layer's file says ------------------------------------------------------------------------


def _source(kind: LayerType) -> Path:
    return FOLDER / f"{kind.build.__module__.removeprefix(_PACKAGE).replace('.', '/')}.py"


def _docstring(path: Path) -> str:
    module = path.relative_to(FOLDER).with_suffix("").as_posix().replace("/", ".")
    return str(sys.modules[f"{_PACKAGE}{module}"].__doc__)


def _helpers(path: Path) -> Iterator[Path]:
    """The modules that a layer's file shares with its kin, themselves no layers."""
    imported = re.findall(
        r"^from caffe_ssd\.layers\.([\w.]+) import", path.read_text(), re.MULTILINE
    )
    for name in imported:
        helper = FOLDER / f"{name.replace('.', '/')}.py"
        if name != "registry" and not re.search(r"^@?register_layer\(", helper.read_text(), re.M):
            yield helper


def _quirks(path: Path) -> Iterator[str]:
    for file in (path, *_helpers(path)):
        for paragraph in _docstring(file).split("\n\n"):
            for part in re.split(r"^(?=[A-Z]\w+: )", paragraph, flags=re.MULTILINE):
                if part.startswith("Quirk: "):
                    yield " ".join(part.removeprefix("Quirk: ").split())


def _settings(path: Path) -> list[str]:
    """The fields of LayerParameter that its file, or a file it shares with its kin, reads."""
    text = "".join(file.read_text() for file in (path, *_helpers(path)))
    found = set(re.findall(r"\bparam\.(\w+_param)\b", text))
    return [field.name for field in LayerParameter.DESCRIPTOR.fields if field.name in found]


# Messages ----------------------------------------------------------------------------------------


def _messages() -> str:
    kinds = [kind for name in layer_types() for kind in (layer_type(name), *variants(name))]
    used = {name for kind in kinds for name in _settings(_source(kind))}
    roots = {
        field.name: cast(Descriptor, field.message_type)
        for field in LayerParameter.DESCRIPTOR.fields
        if field.name in used
    }
    shown = [_message(name, message) for name, message in roots.items()]
    nested = _nested(roots.values())
    shown += [_message(message.name, message) for message in nested]
    return "\n".join(shown)


def _nested(roots: Iterable[Descriptor]) -> list[Descriptor]:
    """The messages inside those of the layers, by name."""
    roots = list(roots)
    seen = {message.full_name for message in roots}
    found: dict[str, Descriptor] = {}
    while roots:
        for field in roots.pop().fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                found[inner.name] = inner
                roots.append(inner)
    return [found[name] for name in sorted(found)]


def _message(title: str, message: Descriptor) -> str:
    rows = [
        f"| {field.name}{' (extension)' if is_extension(field) else ''} "
        f"| {_kind(field)} | {_default(field)} |"
        for field in message.fields
    ]
    head = [f"### {title}\n", "| field | type | default |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def _kind(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        named = _layer_field(field.message_type)
        name = f"[{field.message_type.name}](#{_anchor(named)})"
    elif field.enum_type is not None:
        name = ", ".join(value.name for value in field.enum_type.values)
    else:
        name = _SCALARS[field.type]
    return f"{name}, repeated" if field.is_repeated else name


_SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in ("float", "double", "int32", "int64", "uint32", "bool", "string", "bytes")
}


def _layer_field(message: Descriptor) -> str:
    """Under which title a message is shown."""
    for field in LayerParameter.DESCRIPTOR.fields:
        if field.message_type == message and field.name.endswith("_param"):
            return field.name
    return message.name


def _default(field: FieldDescriptor) -> str:
    if field.is_repeated or field.message_type is not None:
        return ""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[field.default_value].name
    if not field.has_default_value:
        return ""
    value = field.default_value
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else repr(value).replace("'", '"')


def _anchor(title: str) -> str:
    return title.lower()


if __name__ == "__main__":
    atomic_write(TARGET, document())
