"""The pixels of a data set's pictures, wherever they are, and their boxes drawn on them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.drawing import DrawnBox, Pen, draw_frame, draw_tag
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.datasets.database import FORMAT
from caffe_ssd.datasets.dataset import AnnotatedPicture, Dataset
from caffe_ssd.datasets.pictures import upright_picture
from caffe_ssd.datasets.prior_checks import fractions_of
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum

Image = NDArray[np.uint8]
Loader = Callable[[AnnotatedPicture], Image]

_MOST_TEXTS = 8


def loader_of(dataset: Dataset) -> Loader:
    """What gives the picture [H, W, 3], BGR, of an entry of this data set.

    The loader raises CaffeError where it cannot.
    """
    if dataset.format != FORMAT:
        return lambda picture: upright_picture(picture.path)
    databases = {path: LmdbSource(path) for path in {p.path for p in dataset.pictures}}
    places = {
        path: {key.decode(errors="replace"): index for index, key in enumerate(source.keys())}
        for path, source in databases.items()
    }

    def load(picture: AnnotatedPicture) -> Image:
        value = databases[picture.path][places[picture.path][picture.annotation_path]]
        image = decode_datum(AnnotatedDatum.FromString(value).datum)
        if image.shape[2] == 1:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        return image.astype(np.uint8, copy=False)

    return load


def drawn(
    dataset: Dataset,
    picture: AnnotatedPicture,
    image: Image,
    side_px: int,
    marked: Collection[int] | None = None,
) -> Image:
    """A picture scaled to a longer side of `side_px` pixels with its boxes.

    Args:
        dataset: what it belongs to, for the colours of classes.
        picture: the picture.
        image: its pixels.
        side_px: see above.
        marked: boxes to point out, by their indices: these have thick lines and a name, all others
            are dashed. None draws all alike.
    """
    factor = side_px / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    canvas = np.ascontiguousarray(tile, np.uint8)
    labels = {name: label for label, name in enumerate(dataset.classes, 1)}
    boxes = [
        DrawnBox(label=labels.get(box.category, 0), text=_ascii(box.category), corners=_in_order(c))
        for box, c in zip(picture.boxes, fractions_of(picture), strict=True)
    ]
    thin, thick = Pen(line_px=1), Pen(line_px=3)
    if marked is None:
        for box in boxes:
            draw_frame(canvas, box, Pen())
        marked = range(len(boxes)) if len(boxes) <= _MOST_TEXTS else ()
    else:
        for index, box in enumerate(boxes):
            is_marked = index in marked
            draw_frame(canvas, replace(box, dashed=not is_marked), thick if is_marked else thin)
    for index in marked:
        draw_tag(canvas, boxes[index], Pen())
    return canvas


def _in_order(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Swapped corners, so that the box can be seen at all."""
    return np.concatenate(
        [np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])]
    )


def _ascii(text: str) -> str:
    """OpenCV's letters are ASCII."""
    return text.encode("ascii", "replace").decode()
