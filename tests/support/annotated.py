"""Small annotated folders that tests draw themselves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import AnnotatedPicture, Dataset
from caffe_ssd.datasets.pictures import look_at

CLASSES = ["ring", "green square", "blåbær"]
COLOURS = [(40, 40, 220), (60, 200, 60), (220, 60, 60)]


def draw_picture(
    path: Path, boxes: list[AnnotatedBox], size: tuple[int, int] = (90, 120), seed: int = 0
) -> None:
    """A picture of noise with filled boxes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(90, 170, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    for box in boxes:
        xmin, ymin, xmax, ymax = map(round, box.corners_px)
        colour = COLOURS[CLASSES.index(box.category)] if box.category in CLASSES else (0, 0, 0)
        cv2.rectangle(image, (xmin, ymin), (xmax - 1, ymax - 1), colour, -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def some_boxes(rng: np.random.Generator, height: int, width: int) -> list[AnnotatedBox]:
    """One to four boxes, some difficult, one in three with fractions of pixels."""
    boxes = []
    for _index in range(rng.integers(1, 5)):
        x, y = rng.integers(0, width - 12), rng.integers(0, height - 12)
        right, bottom = rng.integers(x + 8, width + 1), rng.integers(y + 8, height + 1)
        shift = 0.375 if rng.integers(3) == 0 else 0.0
        name = CLASSES[int(rng.integers(3))]
        corners = (float(x) + shift, float(y), float(right), float(bottom) - shift)
        boxes.append(AnnotatedBox(name, *corners, is_difficult=False))
    return boxes


def drawn_dataset(
    folder: Path,
    count: int = 20,
    num_test: int = 5,
    same_size: tuple[int, int] | None = None,
) -> Dataset:
    """A data set whose pictures are drawn into a folder; the last ones are for testing.

    The first one has no boxes; they are of many sizes, or all of one (height, width).
    """
    pictures = []
    rng = np.random.default_rng(3)
    for index in range(count):
        size = (int(rng.integers(60, 140)), int(rng.integers(80, 200)))
        size = size if same_size is None else same_size
        boxes = some_boxes(rng, *size) if index else []
        name = f"images/picture_{index:03d}.{'png' if index % 3 else 'jpg'}"
        draw_picture(folder / name, boxes, size, seed=index)
        pictures.append(
            AnnotatedPicture(
                path=str(folder / name),
                name=name,
                file=look_at(folder / name),
                boxes=boxes,
                split="" if not num_test else "test" if index >= count - num_test else "train",
            )
        )
    return Dataset(root=str(folder), format="voc", pictures=pictures, classes=list(CLASSES))
