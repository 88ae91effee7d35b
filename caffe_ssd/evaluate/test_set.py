"""A test set and what was found in it, as columns, for the official protocols.

Pixels are those of the annotation files: nothing is shifted between counting from 0 and from 1,
because the database holds the files' numbers as they are and a net learns those (spec: ssd-data.md
sections 2 and 9). A box is (x, y, width, height) with width = xmax - xmin; a protocol that counts
the last pixel adds 1 by itself.

Letters: I images, K categories, G objects, D detections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import DataError
from caffe_ssd.evaluate.results import Detection, ImageSize

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

_CHUNK = 1 << 16


class AnnotatedObject(NamedTuple):
    """One object of a test set; `area_px` is its own where the annotations know it."""

    image: str
    category: str
    x_px: float
    y_px: float
    width_px: float
    height_px: float
    is_difficult: bool
    area_px: float | None = None


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The annotated objects of a test set.

    Args:
        image: [G] index of the image.
        category: [G] index of the category.
        boxes_px: [G, 4] (x, y, width, height).
        areas_px: [G]; those of the boxes unless the annotations say otherwise.
        is_difficult: [G]; crowds in COCO.
    """

    image: Indices
    category: Indices
    boxes_px: Floats
    areas_px: Floats
    is_difficult: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The detections of a test set, in the order of their file.

    Args:
        image: [D] index of the image.
        category: [D] index of the category.
        scores: [D].
        boxes_px: [D, 4] (x, y, width, height).
    """

    image: Indices
    category: Indices
    scores: Floats
    boxes_px: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def as_in_voc_files(self) -> Found:
        """What a VOC file keeps of them: whole pixels, 6 digits of the score."""
        return Found(
            image=self.image,
            category=self.category,
            scores=np.array([float(f"{score:g}") for score in self.scores.tolist()], np.float64),
            boxes_px=np.trunc(self.boxes_px),
        )


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """The truth about a test set.

    Args:
        images: [I].
        categories: name in result files -> name to show, in the order of tables. [K]
        objects: what is on the images.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    images: tuple[ImageSize, ...]
    categories: Mapping[str, str]
    objects: Objects = field(repr=False)

    @cached_property
    def image_index(self) -> Mapping[str, int]:
        """Name of an image -> its index."""
        return {image.name: i for i, image in enumerate(self.images)}

    @cached_property
    def category_index(self) -> Mapping[str, int]:
        """Name of a category in result files -> its index."""
        return {name: i for i, name in enumerate(self.categories)}

    def num_objects(self) -> dict[str, int]:
        """Objects that count, the difficult ones left out, by category."""
        counted = self.objects.category[~self.objects.is_difficult]
        counts = np.bincount(counted, minlength=len(self.categories)).tolist()
        return dict(zip(self.categories, counts, strict=True))

    def found(self, detections: Iterable[Detection], *, source: str) -> Found:
        """Detections as columns.

        Args:
            detections: of this test set's images and categories; never all held at once.
            source: where they come from, for error messages.

        Raises:
            DataError: an image or category is not of this test set, or a score or box is not
                finite.
        """
        parts = [self._columns(chunk, source) for chunk in _chunks(detections)]
        table = np.concatenate([np.empty((0, 7)), *parts])
        if not np.isfinite(table).all():
            raise DataError(f"{source}: a score or a box is not finite")
        return Found(
            image=table[:, 0].astype(np.int64),
            category=table[:, 1].astype(np.int64),
            scores=table[:, 2],
            boxes_px=table[:, 3:],
        )

    def _columns(self, detections: list[Detection], source: str) -> Floats:
        images, categories = self.image_index, self.category_index
        try:
            rows = [(images[d[0]], categories[d[1]], *d[2:]) for d in detections]
        except KeyError:
            raise self._stranger(detections, source) from None
        return np.array(rows, np.float64)

    def _stranger(self, detections: list[Detection], source: str) -> DataError:
        for each in detections:
            if each.image not in self.image_index:
                return DataError(
                    f"{source}: image {each.image!r} is not in the test set of "
                    f"{len(self.images)} images ({self.images[0].name!r}, ...); results and "
                    "annotations must belong together"
                )
        names = {each.category for each in detections} - set(self.category_index)
        return DataError(
            f"{source}: category {min(names)!r} is not among those of the annotations: "
            f"{_some(self.categories)}"
        )


def make_test_set(
    images: Iterable[ImageSize], categories: Mapping[str, str], objects: Iterable[AnnotatedObject]
) -> TestSet:
    """Put a test set together; objects of other categories are left out.

    Raises:
        DataError: there is no image, or one stands twice.
    """
    images = tuple(images)
    image_index = {image.name: i for i, image in enumerate(images)}
    if not images:
        raise DataError("the test set has no images")
    if len(image_index) != len(images):
        names = [image.name for image in images]
        twice = next(name for i, name in enumerate(names) if image_index[name] != i)
        raise DataError(f"image {twice!r} stands twice in the list of the test set")
    index = {name: i for i, name in enumerate(categories)}
    kept = [each for each in objects if each.category in index]
    areas = [e.width_px * e.height_px if e.area_px is None else e.area_px for e in kept]
    return TestSet(
        images=images,
        categories=categories,
        objects=Objects(
            image=np.array([image_index[each.image] for each in kept], np.int64),
            category=np.array([index[each.category] for each in kept], np.int64),
            boxes_px=np.array([each[2:6] for each in kept], np.float64).reshape(-1, 4),
            areas_px=np.array(areas, np.float64),
            is_difficult=np.array([each.is_difficult for each in kept], np.bool_),
        ),
    )


def _chunks(detections: Iterable[Detection]) -> Iterator[list[Detection]]:
    iterator = iter(detections)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _some(names: Iterable[str], limit: int = 10) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
