"""Drawn pictures in place of photographs, in databases that are otherwise the recorded ones.

`db_facts.json` of the recorded data says of every record of the reference's databases how large its
picture is and which boxes it has. Labels of a data layer depend on nothing else; what the layer
makes of the drawn pixels is recorded in tests/recorded (make_drawn.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum, Datum
from tests.data.databases import write_lmdb
from tests.support.golden import GOLDEN

FACTS: dict[str, Any] = json.loads((GOLDEN / "data" / "db_facts.json").read_text())


def drawn_picture(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Slopes, stripes and a checked pattern, uint8 [height, width, channels]; integers only."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for c in range(channels):
        slope = (x * (seed % 5 + 1 + c) + y * (3 - c)) // 4
        checks = ((x // (17 + seed)) + (y // (13 + 2 * c))) % 2 * 70
        stripes = (x + 2 * y + 11 * c) % (23 + seed) * 3
        planes.append((slope + checks + stripes) % 256)
    return np.stack(planes, axis=2).astype(np.uint8)


def drawn_database(folder: Path, name: str) -> str:
    """A recorded database with other pictures; returns its path.

    Encoded pictures are PNG, which every decoder reads alike.
    """
    records = FACTS[name]["records"]
    return write_lmdb(folder / name, (drawn_record(r, i) for i, r in enumerate(records)))


def drawn_datum(facts: dict[str, Any], number: int) -> Datum:
    """A record's picture, of the recorded size and channels."""
    said = facts["datum"]
    height, width, channels = said["height"], said["width"], said["channels"]
    datum = Datum(height=height, width=width, channels=channels, label=said["label"])
    if said["encoded"]:
        shape = facts["decoded"]["shape"]  # a gray file may say that it has three channels
        picture = drawn_picture(height, width, shape[2] if len(shape) > 2 else 1, number)
        datum.data, datum.encoded = cv2.imencode(".png", picture)[1].tobytes(), True
    else:
        picture = drawn_picture(height, width, channels, number)
        datum.data = picture.transpose(2, 0, 1).tobytes()
    return datum


def drawn_record(facts: dict[str, Any], number: int) -> AnnotatedDatum:
    """A picture with the recorded groups of boxes, if any."""
    record = AnnotatedDatum(datum=drawn_datum(facts, number))
    if facts["has_type"]:
        record.type = facts["type"]
    for group in facts["groups"]:
        made = record.annotation_group.add(group_label=group["label"])
        for item in group["annotations"]:
            annotation = made.annotation.add(instance_id=item["instance_id"])
            box = annotation.bbox
            box.xmin, box.ymin, box.xmax, box.ymax = item["bbox"]
            box.difficult = item["difficult"]
    return record
