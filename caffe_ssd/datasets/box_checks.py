"""What can be wrong with boxes."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import (
    ERROR,
    NOTE,
    WARNING,
    AnnotatedPicture,
    Dataset,
    Notes,
    in_number,
)

TINY_PX = 8
"""The least side, as the root of the area, that the finest maps of the published nets can see."""

_SAME = 0.95
_TOLERANCE_PX = 1.0  # VOC's corners are counted from 1 by some programs
_TEXTS = {
    "swapped": (ERROR, "{boxes} boxes have swapped corners (xmin above xmax, or ymin above ymax)"),
    "elsewhere": (ERROR, "{boxes} boxes lie wholly outside their picture"),
    "outside": (WARNING, "{boxes} boxes reach out of their picture"),
    "empty": (WARNING, "{boxes} boxes have no area; no prior can match them"),
    "one-pixel": (WARNING, "{boxes} boxes are one pixel wide or high: a slip of the mouse?"),
    "twice": (WARNING, "{boxes} objects are marked twice with the same class"),
    "two-classes": (WARNING, "{boxes} objects are marked twice with different classes"),
}


def check_boxes(dataset: Dataset, notes: Notes, input_size: tuple[int, int]) -> None:
    """Look at every box.

    Args:
        dataset: the data set.
        notes: gets the findings.
        input_size: (height, width) of the net's input, in pixels.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for picture in dataset.pictures:
        for kind, boxes in box_faults(picture, input_size).items():
            found[kind] += [picture.name] * len(boxes)
    for kind, (severity, text) in _TEXTS.items():
        counted = in_number(text.replace("{boxes}", str(len(found[kind]))))
        notes.add_all(kind, severity, counted, found[kind])
    tiny = len(found["tiny"])
    total = sum(len(picture.boxes) for picture in dataset.pictures)
    height, width = input_size
    notes.add_all(
        "tiny",
        WARNING if tiny > total / 10 else NOTE,
        f"{tiny} boxes of {total} are smaller than {TINY_PX} x {TINY_PX} pixels at the net's "
        f"input of {height} x {width} (height x width): a larger input would help",
        found["tiny"],
    )


def box_faults(picture: AnnotatedPicture, input_size: tuple[int, int]) -> dict[str, list[int]]:
    """Which boxes of a picture, by their indices, have which fault.

    Args:
        picture: the picture.
        input_size: (height, width) of the net's input, in pixels.
    """
    found: dict[str, list[int]] = defaultdict(list)
    for index, box in enumerate(picture.boxes):
        if kind := _fault(box, *picture.size):
            found[kind].append(index)
        elif _is_tiny(box, picture.size, input_size):
            found["tiny"].append(index)
    for kind, index in _pairs(picture):
        found[kind].append(index)
    return found


def _fault(box: AnnotatedBox, height: int, width: int) -> str:
    xmin, ymin, xmax, ymax = box.corners_px
    if xmin > xmax or ymin > ymax:
        return "swapped"
    if xmin >= width or ymin >= height or xmax <= 0 or ymax <= 0:
        return "elsewhere"
    if xmin == xmax or ymin == ymax:
        return "empty"
    if min(xmin, ymin) < -_TOLERANCE_PX or max(xmax - width, ymax - height) > _TOLERANCE_PX:
        return "outside"
    if min(xmax - xmin, ymax - ymin) <= 1:
        return "one-pixel"
    return ""


def _is_tiny(box: AnnotatedBox, size: tuple[int, int], input_size: tuple[int, int]) -> bool:
    xmin, ymin, xmax, ymax = box.corners_px
    width = (xmax - xmin) / size[1] * input_size[1]
    height = (ymax - ymin) / size[0] * input_size[0]
    return math.sqrt(width * height) < TINY_PX


def _pairs(picture: AnnotatedPicture) -> list[tuple[str, int]]:
    """A word and the second box for each pair of boxes that mark one object."""
    if len(picture.boxes) < 2:
        return []
    corners = np.array([box.corners_px for box in picture.boxes], np.float64)
    first, second = np.nonzero(np.triu(overlaps(corners), 1) >= _SAME)
    names = [box.category for box in picture.boxes]
    return [
        ("twice" if names[i] == names[j] else "two-classes", j)
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    ]


def overlaps(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, N] intersection over union of boxes [N, 4] in pixels; 0 where there is no area."""
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clip(0).prod(2)
    area = (corners[:, 2:] - corners[:, :2]).clip(0).prod(1)
    union = area[:, None] + area[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
