"""What a database record holds: an encoded or raw image, its class and its annotated boxes.

Spec: ssd-data.md section 1, ssd-layers.md section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffe_ssd.errors import DataError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum, Datum

Boxes: TypeAlias = NDArray[np.float32]

LABEL_COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The objects of one image, ordered by annotation group and inside a group as stored.

    Args:
        boxes: [n, 4], normalised; stored boxes may leave the image.
        labels: [n] class numbers (the `group_label`).
        instance_ids: [n] numbers inside the class.
        difficult: [n].
    """

    boxes: Boxes
    labels: NDArray[np.int32]
    instance_ids: NDArray[np.int32]
    difficult: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, kept: NDArray[np.bool_], boxes: Boxes) -> Annotations:
        """The objects marked in `kept` [n], with new boxes (also [n, 4])."""
        return Annotations(
            boxes=boxes[kept],
            labels=self.labels[kept],
            instance_ids=self.instance_ids[kept],
            difficult=self.difficult[kept],
        )

    def rows(self, item: int) -> NDArray[np.float32]:
        """Rows of the label blob, [n, 8], for image `item` of a batch."""
        rows = np.empty((len(self), LABEL_COLUMNS), np.float32)
        rows[:, 0] = item
        rows[:, 1] = self.labels
        rows[:, 2] = self.instance_ids
        rows[:, 3:7] = self.boxes
        rows[:, 7] = self.difficult
        return rows


NO_ANNOTATIONS = Annotations(
    boxes=np.empty((0, 4), np.float32),
    labels=np.empty(0, np.int32),
    instance_ids=np.empty(0, np.int32),
    difficult=np.empty(0, np.bool_),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One record.

    Args:
        datum: the image, encoded or raw.
        annotations: its objects; none for classification records.
    """

    datum: Datum
    annotations: Annotations = NO_ANNOTATIONS

    @property
    def class_label(self) -> int:
        """The class of a classification record.

        Raises:
            DataError: the record has none.
        """
        if not self.datum.HasField("label"):
            raise DataError("has no datum.label, but the layer has a label top")
        return self.datum.label


RecordParser: TypeAlias = Callable[[bytes], Sample]


def is_detection_record(value: bytes) -> bool:
    """Whether a serialized AnnotatedDatum says that it carries boxes."""
    return _annotated(value).HasField("type")


def parse_detection(value: bytes) -> Sample:
    """Read an AnnotatedDatum with boxes.

    Raises:
        DataError: it is no AnnotatedDatum, or has no `type`.
    """
    record = _annotated(value)
    if not record.HasField("type"):
        raise DataError(
            "has no type, but the layer reads boxes: all records must come from "
            "convert_annoset --anno_type=detection"
        )
    objects = [
        (group.group_label, item) for group in record.annotation_group for item in group.annotation
    ]
    if not objects:
        return Sample(datum=record.datum)
    boxes = [(b.xmin, b.ymin, b.xmax, b.ymax) for b in (item.bbox for _, item in objects)]
    return Sample(
        datum=record.datum,
        annotations=Annotations(
            boxes=np.array(boxes, np.float32),
            labels=np.array([label for label, _ in objects], np.int32),
            instance_ids=np.array([item.instance_id for _, item in objects], np.int32),
            difficult=np.array([item.bbox.difficult for _, item in objects], np.bool_),
        ),
    )


def parse_classification(value: bytes) -> Sample:
    """Read an AnnotatedDatum whose label is `datum.label`.

    Raises:
        DataError: it is no AnnotatedDatum.
    """
    return Sample(datum=_annotated(value).datum)


def parse_datum(value: bytes) -> Sample:
    """Read a plain Datum.

    Raises:
        DataError: it is no Datum, or has no pixels.
    """
    try:
        datum = Datum.FromString(value)
    except DecodeError:
        raise DataError("is not a Datum") from None
    if not (datum.data or datum.float_data):
        raise DataError(
            "has no image; databases of convert_annoset are read by a layer of type AnnotatedData"
        )
    return Sample(datum=datum)


def parse_picture(value: bytes) -> Sample:
    """Read the picture of a Datum or an AnnotatedDatum, whichever it is, without its boxes.

    Raises:
        DataError: it is neither, or has no pixels.
    """
    try:
        record = AnnotatedDatum.FromString(value)
    except DecodeError:
        return parse_datum(value)
    return Sample(datum=record.datum) if record.HasField("datum") else parse_datum(value)


def _annotated(value: bytes) -> AnnotatedDatum:
    try:
        record = AnnotatedDatum.FromString(value)
    except DecodeError:
        raise DataError("is not an AnnotatedDatum") from None
    if not record.HasField("datum"):
        raise DataError(
            "is an AnnotatedDatum without an image; databases of plain Datum records are read by a "
            "layer of type Data"
        )
    return record
