"""Small databases and data layers for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import lmdb
import numpy as np
from google.protobuf import text_format

from caffe_ssd.layers import registry
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.registry import LayerSpec, Runtime
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum, Datum, LayerParameter, Phase
from caffe_ssd.random import CaffeRandom


def picture(height: int = 30, width: int = 40, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth random image, uint8 [height, width, channels]."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 4, channels), np.uint8)
    return cv2.resize(small, (width, height)).reshape(height, width, channels)


def datum(image: np.ndarray, label: int | None = 3, extension: str = ".png") -> Datum:
    """An encoded record of an image."""
    height, width, channels = image.shape
    data = cv2.imencode(extension, image)[1].tobytes()
    record = Datum(channels=channels, height=height, width=width, data=data, encoded=True)
    if label is not None:
        record.label = label
    return record


def annotated(image: Datum, rows: Iterable[tuple[float, ...]] = ()) -> AnnotatedDatum:
    """A detection record; rows are (label, instance, xmin, ymin, xmax, ymax, difficult)."""
    record = AnnotatedDatum(datum=image, type=AnnotatedDatum.BBOX)
    for label, instance, xmin, ymin, xmax, ymax, difficult in rows:
        groups = record.annotation_group
        if not groups or groups[-1].group_label != label:
            groups.add(group_label=int(label))
        item = groups[-1].annotation.add(instance_id=int(instance))
        item.bbox.xmin, item.bbox.ymin, item.bbox.xmax, item.bbox.ymax = xmin, ymin, xmax, ymax
        item.bbox.difficult = bool(difficult)
    return record


def write_lmdb(path: Path, records: Iterable[Datum | AnnotatedDatum | bytes]) -> str:
    """Write records under numbered keys; returns the path as text."""
    with lmdb.open(str(path), map_size=1 << 24) as database, database.begin(write=True) as writing:
        for number, record in enumerate(records):
            value = record if isinstance(record, bytes) else record.SerializeToString()
            writing.put(f"{number:08d}_{number}.png".encode(), value)
    return str(path)


def write_small_database(path: Path) -> str:
    """Seven pictures of one size with 0 to 3 boxes."""
    boxes = [
        (1, 0, 0.1, 0.2, 0.5, 0.6, 0),
        (1, 1, 0.4, 0.1, 0.9, 0.45, 1),
        (2, 0, 0.3, 0.5, 0.7, 0.95, 0),
    ]
    images = [datum(picture(seed=n), extension=".jpg") for n in range(7)]
    return write_lmdb(path, [annotated(image, boxes[: n % 4]) for n, image in enumerate(images)])


def data_layer(text: str, *, phase: str = "TEST", seed: int = 1, **runtime: object) -> RecordLayer:
    """Build a data layer from the inside of its `layer { }` message."""
    param = text_format.Parse(text, LayerParameter())
    param.phase = Phase.Value(phase)
    surroundings = Runtime(rng=CaffeRandom(seed), **runtime)
    layer = registry.build_layer(LayerSpec(param=param, bottoms=(), runtime=surroundings))
    assert isinstance(layer, RecordLayer)
    return layer


def detection_layer(
    source: str, settings: str = "", *, batch_size: int = 4, tops: int = 2, **surroundings: object
) -> RecordLayer:
    """An AnnotatedData layer on a database; `settings` are further fields of the message."""
    names = "".join(f'top: "{name}" ' for name in ("data", "label")[:tops])
    return data_layer(
        f'name: "data" type: "AnnotatedData" {names} {settings} '
        f'data_param {{ source: "{source}" batch_size: {batch_size} backend: LMDB }}',
        **surroundings,
    )
