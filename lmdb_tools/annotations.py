"""An annotation file's boxes as a record of the database holds them.

Spec: ssd-data.md sections 1 and 2.
Quirk: the size the file states wins over the real one, even when they differ.
Quirk: boxes outside the image, or with edges swapped, are stored as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np

from caffe_ssd.data.annotation_files import CORNERS, AnnotatedBox, AnnotationFile, whole_of
from caffe_ssd.data.samples import NO_ANNOTATIONS, Annotations, Boxes
from caffe_ssd.errors import DataError

BACKGROUND = 0


def to_annotations(
    file: AnnotationFile,
    *,
    label_type: str,
    image_size: tuple[int, int],
    name_to_label: Mapping[str, int],
) -> Annotations:
    """Labels and normalised boxes of a file, in its order.

    Args:
        file: what was read; gets faults and warnings about labels and sizes.
        label_type: of the file; txt files hold labels rather than names.
        image_size: (height, width) of the original image, in pixels.
        name_to_label: the label map.

    Raises:
        DataError: a class is unknown, or the size is not positive.
    """
    height, width = _size(file, image_size, is_stated=label_type != "txt")
    if not file.boxes:
        return NO_ANNOTATIONS
    sides_px = np.array([width, height, width, height], np.float32)
    corners_px = np.array([box.corners_px for box in file.boxes]).astype(np.float32)
    labels = [_label(file, box.category, label_type, name_to_label) for box in file.boxes]
    _warn_of_corners(file, corners_px, sides_px)
    counts: Counter[int] = Counter()
    instance_ids = []
    for label in labels:
        instance_ids.append(counts[label])
        counts[label] += 1
    return Annotations(
        boxes=corners_px / sides_px,
        labels=np.array(labels, np.int32),
        instance_ids=np.array(instance_ids, np.int32),
        difficult=np.array([box.is_difficult for box in file.boxes], np.bool_),
    )


def _size(file: AnnotationFile, image_size: tuple[int, int], *, is_stated: bool) -> tuple[int, int]:
    """What boxes are divided by: the file's own size if it states one, else the image's."""
    real = f"{image_size[0]}x{image_size[1]} (height x width)"
    size = image_size
    if is_stated and file.size is None:
        file.warnings.append(f"{file.path} states no size; the image's is used: {real}.")
    elif file.size is not None:
        size = file.size
        if size != image_size:
            stated = f"{size[0]}x{size[1]}"
            file.warnings.append(f"{file.path} states the size {stated}, the image has {real}.")
            file.counts["files that state another size than their image's, used as stated"] += 1
    if min(size) <= 0:
        raise DataError(f"{file.path}: the size is {size[0]}x{size[1]} (height x width)")
    return size


def _label(
    file: AnnotationFile, category: str, label_type: str, name_to_label: Mapping[str, int]
) -> int:
    if label_type == "txt":
        label = whole_of(category)
        assert label is not None, "the reader lets whole numbers pass only"
        known = sorted(set(name_to_label.values()) - {BACKGROUND})
        if label not in known:
            file.faults.append(
                f"{file.path}: label {label} is not in the label map; {_some(known)}"
            )
        return label
    if category not in name_to_label:
        names = list(name_to_label)
        close = get_close_matches(category, names, n=2)
        hint = f"did you mean {' or '.join(repr(name) for name in close)}?"
        raise DataError(
            f"{file.path}: class {category!r} is not in the label map; "
            f"{hint if close else _some(names)}"
        )
    if name_to_label[category] == BACKGROUND:
        file.faults.append(
            f"{file.path}: class {category!r} has label 0 in the label map, the background's"
        )
    return name_to_label[category]


def _warn_of_corners(file: AnnotationFile, corners_px: Boxes, sides_px: Boxes) -> None:
    for box, corners in zip(file.boxes, corners_px, strict=True):
        outside = [
            f"{side} {value:g} of {box.category!r} is outside 0..{limit:g}"
            for side, value, limit in zip(CORNERS, corners, sides_px, strict=True)
            if value > limit or value < 0
        ]
        file.warnings += [
            f"{file.path} bounding box exceeds image boundary: {what}." for what in outside
        ]
        is_swapped = corners[0] > corners[2] or corners[1] > corners[3]
        if is_swapped:
            file.warnings.append(_swapped(file.path, box))
        file.counts["boxes that leave their image, stored as they are"] += bool(outside)
        file.counts["boxes with swapped edges, stored as they are"] += bool(is_swapped)


def _swapped(path: str, box: AnnotatedBox) -> str:
    shown = ", ".join(f"{value:g}" for value in box.corners_px)
    return f"{path} bounding box of {box.category!r} has swapped edges: {shown}."


def _some(known: list[int] | list[str], limit: int = 20) -> str:
    shown = ", ".join(map(str, known[:limit])) + (", ..." if len(known) > limit else "")
    return f"the label map has: {shown}"
