"""What this program adds to SSD-Caffe's format, and where a file uses it.

Extensions are fields and enum values with numbers from `FIRST_NUMBER` up, far above the original's,
the values as bytes that NVCaffe writes, the layer types of `LAYER_TYPES`, and more bottoms or tops
than the original's layers of `MOST_BLOBS` take. The original refuses a net that uses them.
docs/extensions.md says which are from where.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from caffe_ssd.errors import LayerParamError, ProtoError
from caffe_ssd.files import read_text
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter
from caffe_ssd.proto.text_fields import TextField, position, walk_fields

PathLike = str | os.PathLike[str]

FIRST_NUMBER = 10_000
LAYER_TYPES = frozenset(
    (
        *("Axpy", "BN", "BoxAnnotatorOHEM", "ConvolutionDepthwise", "DepthwiseConvolution"),
        *("GroupNorm", "HardSwish", "Interp", "MaskPooling", "PSROIPooling", "PriorBoxClustered"),
        *("ROIPooling", "ReLU6", "Reorg", "ShuffleChannel", "SmoothL1LossOHEM"),
        *("SoftmaxWithLossOHEM", "Squeeze", "Swish", "Upsample", "UpsampleDarknet"),
        *("YoloDetectionOutput", "Yolov3DetectionOutput"),
    )
)
# Bottoms and tops of the original's layers that take more in other forks.
MOST_BLOBS = {
    "DetectionOutput": (4, 1),
    "MultiBoxLoss": (4, 1),
    "Normalize": (1, 1),
    "SmoothL1Loss": (2, 1),
    "SoftmaxWithLoss": (2, 1),
}
RAW_FIELDS = frozenset(
    f"caffe.BlobProto.raw_{name}" for name in ("data", "diff", "data_type", "diff_type")
)
# Fields that are known so that they can be refused by name: any value but the default.
FIXED_FIELDS = {
    "BatchNormParameter.disable_mean": "there is no normalisation without the mean here",
    "BatchNormParameter.disable_variance": "there is no normalisation without the variance here",
    "BatchNormParameter.update_global_stats": "how it updates statistics is not known",
    "ConvolutionParameter.pad_type": "padding by type is not known here; give pad_l, pad_r, "
    "pad_t and pad_b",
    "DetectionOutputParameter.do_state_prediction": "states of traffic lights are not predicted",
    "DetectionOutputParameter.group_by_classes": "the order of its predictions is another",
    "DetectionOutputParameter.loc_pred_transposed": "the order of its predictions is another",
    "DetectionOutputParameter.no_permute": "its bottoms come without the Permute layers",
    "DetectionOutputParameter.normalized_bbox": "priors in pixels are not supported",
    "DetectionOutputParameter.use_polygon": "quadrilaterals are not supported",
    "MultiBoxLossParameter.ignore_difficult_gt": "use_difficult_gt is the field for that",
    "MultiBoxLossParameter.use_polygon": "quadrilaterals are not supported",
    "PoolingParameter.torch_pooling": "how it averages is not known; ceil_mode: false rounds down",
}

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
        yield from _too_many_blobs(message)
    for field, value in message.ListFields():
        if is_extension(field):
            yield Extension(what=field.name, layer=layer)
        elif field.enum_type is not None and not field.is_repeated and value >= FIRST_NUMBER:
            name = field.enum_type.values_by_number[value].name
            yield Extension(what=f"{field.name}: {name}", layer=layer)
        elif field.message_type is not None:
            for part in value if isinstance(value, Iterable) else [value]:
                yield from extensions_in(part, layer)


def _too_many_blobs(layer: LayerParameter) -> Iterator[Extension]:
    bottoms, tops = MOST_BLOBS.get(layer.type, (len(layer.bottom), len(layer.top)))
    for what, count, most in (
        ("bottoms", len(layer.bottom), bottoms),
        ("tops", len(layer.top), tops),
    ):
        if count > most:
            yield Extension(what=f"{layer.type} with {count} {what}", layer=layer.name)


def is_extension(field: FieldDescriptor) -> bool:
    """Whether the original does not know a field."""
    return field.number >= FIRST_NUMBER or field.full_name in RAW_FIELDS


def refuse_fixed_fields(layer: LayerParameter) -> None:
    """Refuse fields of other forks that would mean what is not offered here.

    Raises:
        LayerParamError: one has another value than its default; says why it cannot be used.
    """
    for _, settings in layer.ListFields():
        if not isinstance(settings, Message):
            continue
        for field, value in settings.ListFields():
            reason = FIXED_FIELDS.get(field.full_name.removeprefix("caffe."))
            if reason is not None and value != field.default_value:
                shown = str(value).lower() if isinstance(value, bool) else value
                raise LayerParamError(f"{field.name}: {shown} is not supported: {reason}")


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
        if written.field is not None and is_extension(written.field):
            uses.append((written.name, written))
        elif _names_extension(written):
            uses.append((f"{written.name}: {written.value}", written))
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
    text = read_text(path, errors="surrogateescape")
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


def _names_extension(written: TextField) -> bool:
    """Whether the value is a name that the original's enum lacks."""
    enum = None if written.field is None else written.field.enum_type
    value = None if enum is None else enum.values_by_name.get(written.value)
    return value is not None and value.number >= FIRST_NUMBER


def _layer_of(written: TextField) -> TextField | None:
    """The field that holds the layer around another field."""
    around: TextField | None = written
    while around is not None and not _is_layer(around.message):
        around = around.parent
    return None if around is None else around.parent
