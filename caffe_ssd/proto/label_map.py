"""Label maps: which number and which names a class has.

Spec: ssd-data.md sections 3.1 and 6.
Quirk: where a name or label stands twice the last item wins, unless a check is asked for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from caffe_ssd.errors import DataError
from caffe_ssd.proto import caffe_pb2
from caffe_ssd.proto.text import read_text


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """Read-only look-ups between labels (numbers) and class names.

    Args:
        name_to_label: name of the class in annotations -> label.
        label_to_name: the other way.
        label_to_display_name: label -> name for people; an item without one shows its name.
    """

    name_to_label: Mapping[str, int]
    label_to_name: Mapping[int, str]
    label_to_display_name: Mapping[int, str]


def read_label_map(
    path: str | os.PathLike[str],
    *,
    strict: bool = False,
    unique_names: bool = False,
    unique_labels: bool = False,
) -> LabelMap:
    """Read a label map file (text).

    Args:
        path: the file.
        strict: both checks below.
        unique_names: refuse a name that stands twice, as `convert_annoset --check_label` does.
        unique_labels: refuse a label that stands twice, as DetectionOutput does.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: the text is wrong.
        DataError: a duplicate where one is refused.
    """
    return label_map_from_message(
        read_text(path, caffe_pb2.LabelMap()),
        source=os.fspath(path),
        unique_names=strict or unique_names,
        unique_labels=strict or unique_labels,
    )


def label_map_from_message(
    message: caffe_pb2.LabelMap,
    *,
    source: str = "the label map",
    unique_names: bool = False,
    unique_labels: bool = False,
) -> LabelMap:
    """Build the look-ups from a message; see `read_label_map`.

    Raises:
        DataError: a duplicate where one is refused.
    """
    items = message.item
    if unique_names:
        _check_unique("name", (item.name for item in items), source)
    if unique_labels:
        _check_unique("label", (item.label for item in items), source)
    shown = {i.label: i.display_name if i.HasField("display_name") else i.name for i in items}
    return LabelMap(
        name_to_label={item.name: item.label for item in items},
        label_to_name={item.label: item.name for item in items},
        label_to_display_name=shown,
    )


def _check_unique(what: str, values: Iterable[str | int], source: str) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        listed = ", ".join(repr(value) for value in twice)
        raise DataError(f"{source}: {what} {listed} stands more than once; each must be unique")
