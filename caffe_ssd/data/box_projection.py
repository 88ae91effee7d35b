"""Where boxes go when their image is cropped, enlarged or mirrored.

Spec: ssd-layers.md section 0.1, ssd-data.md section 4.6.
Quirk: without an emit_constraint every box that overlaps the crop survives, however little.

Boxes are [n, 4] float32, [xmin, ymin, xmax, ymax], normalised; a single box is [4].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.samples import Annotations, Boxes
from caffe_ssd.proto.caffe_pb2 import EmitConstraint

Mask: TypeAlias = NDArray[np.bool_]
EmitRule: TypeAlias = Callable[[Boxes, Boxes], Mask]

WHOLE_IMAGE: Boxes = np.array([0, 0, 1, 1], np.float32)


def normalised(edges_px: Sequence[int], *, height: int, width: int) -> Boxes:
    """A box in pixels, [xmin, ymin, xmax, ymax], as a box of an image of this size, [4]."""
    return np.divide(edges_px, (width, height, width, height), dtype=np.float32)


def area(boxes: Boxes) -> NDArray[np.float32]:
    """[...] areas of boxes [..., 4]; 0 where a box is inside out."""
    sides = boxes[..., 2:] - boxes[..., :2]
    width, height = sides[..., 0], sides[..., 1]
    areas: NDArray[np.float32] = np.where((width < 0) | (height < 0), np.float32(0), width * height)
    return areas


def intersection(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Areas of the common parts of boxes [..., 4] that broadcast against each other."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(sides, np.float32(0))
    common: NDArray[np.float32] = sides[..., 0] * sides[..., 1]
    return common


def coverage(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """The fraction of each box of `a` that `b` covers; 0 where nothing is common."""
    return _ratio(intersection(a, b), area(a))


def jaccard(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Intersection over union of boxes that broadcast; 0 where nothing is common."""
    common = intersection(a, b)
    union = area(a) + area(b) - common
    return _ratio(common, union)


def project(crop: Boxes, boxes: Boxes) -> tuple[Mask, Boxes]:
    """Boxes in the coordinates of a crop.

    Args:
        crop: [4].
        boxes: [n, 4].

    Returns:
        [n] which boxes have an area inside the crop, and [n, 4] all of them, clipped to it.
    """
    overlaps = ((boxes[:, :2] < crop[2:]) & (boxes[:, 2:] > crop[:2])).all(axis=1)
    corners = boxes.reshape(-1, 2, 2)
    moved = (corners - crop[:2]) / (crop[2:] - crop[:2])
    projected: Boxes = moved.clip(np.float32(0), np.float32(1)).reshape(-1, 4)
    inside: Mask = overlaps & (area(projected) > 0)
    return inside, projected


def crop_annotations(
    annotations: Annotations, crop: Boxes, *, emit: EmitRule | None = None
) -> Annotations:
    """The objects that remain in a crop, in its coordinates.

    Args:
        annotations: objects of the image.
        crop: [4]; for an enlarged canvas it reaches beyond [0, 1].
        emit: which boxes may remain.
    """
    if not len(annotations):
        return annotations
    kept, boxes = project(crop, annotations.boxes)
    if emit is not None:
        kept[kept] = emit(annotations.boxes[kept], crop)
    return annotations.select(kept, boxes)


def _ratio(common: NDArray[np.float32], areas: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(common, areas, out=np.zeros_like(common), where=common > 0)


def mirror_boxes(boxes: Boxes) -> Boxes:
    """Boxes of the image mirrored left to right."""
    mirrored = boxes.copy()
    mirrored[:, 0] = 1 - boxes[:, 2]
    mirrored[:, 2] = 1 - boxes[:, 0]
    return mirrored


def emit_rule(constraint: EmitConstraint) -> EmitRule:
    """The rule of an `emit_constraint`; it gets boxes [n, 4] and the crop [4] and returns [n]."""
    if constraint.emit_type == EmitConstraint.CENTER:
        return _centre_inside
    return _CoveredMoreThan(constraint.emit_overlap)


def _centre_inside(boxes: Boxes, crop: Boxes) -> Mask:
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((centres >= crop[:2]) & (centres <= crop[2:])).all(axis=1))


class _CoveredMoreThan:
    """A class rather than a closure because rules travel to worker processes."""

    def __init__(self, overlap: float) -> None:
        self.overlap = overlap

    def __call__(self, boxes: Boxes, crop: Boxes) -> Mask:
        return np.asarray(coverage(boxes, crop) > self.overlap)
