"""Which pictures look alike, and which belong together when a data set is divided.

A picture's look is its thumbnail after Gaussian smoothing, without its mean and scaled to length 1,
so that light, contrast, size and compression matter little. Two looks are compared by their scalar
product, the correlation of the thumbnails, and near-duplicates once more in detail: on pictures
with little in them (a clear sky, cells on glass) correlation alone would find too much.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.datasets.dataset import AnnotatedPicture
from caffe_ssd.datasets.pictures import THUMBNAIL

NEAR_DUPLICATE = 0.98
"""Least correlation of two thumbnails of what is one picture, scaled or compressed anew."""
SAME_SCENE = 0.75
"""Least correlation of two frames of a video; names must tell, too."""
MOST_COMPARED = 30_000
"""Beyond so many pictures only equal files are found: all pairs would take minutes."""

_BLOCK = 1024
_FLAT = 2.0
_FRAME = re.compile(r"(\d+)(?!.*\d)")
_MOST_APART = 5
_SAME_DETAIL = 0.9
_MOST_COPIES = 2  # pairs per picture; more of them are no copies
_SMALL_GROUP = 5

Vectors = NDArray[np.float32]


def looks(pictures: Sequence[AnnotatedPicture]) -> Vectors:
    """[N, D] unit vectors; those of pictures of one colour are 0, like nothing."""
    side = 16
    rows = np.zeros((len(pictures), side * side), np.float32)
    for row, picture in zip(rows, pictures, strict=True):
        small = cv2.resize(picture.file.thumbnail, (side, side), interpolation=cv2.INTER_AREA)
        values = small.astype(np.float32).ravel()
        values -= values.mean()
        if values.std() > _FLAT:
            row[:] = values / np.linalg.norm(values)
    return rows


def alike_pairs(vectors: Vectors, least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j, correlation) with i < j of looks that correlate at least so much."""
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        products = block @ vectors[start:].T
        for i, j in np.argwhere(products >= least).tolist():
            if i < j:
                yield start + i, start + j, float(products[i, j])


def near_duplicates(
    pictures: Sequence[AnnotatedPicture], vectors: Vectors
) -> list[tuple[int, int]]:
    """Pairs of pictures that are the same file or the same picture stored anew.

    Where a camera stands still all pictures are nearly the same and hardly any a copy: when pairs
    that look alike are many, only equal files are told.

    Args:
        pictures: the pictures.
        vectors: their `looks`.
    """
    pairs = set(_equal_files(pictures))
    if len(pictures) > MOST_COMPARED:
        return sorted(pairs)
    details = _details(pictures)
    alike: set[tuple[int, int]] = set()
    for i, j, _ in alike_pairs(vectors, NEAR_DUPLICATE):
        if float(details[i] @ details[j]) >= _SAME_DETAIL:
            alike.add((i, j))
        if len(alike) > _MOST_COPIES * len(pictures):
            return sorted(pairs)
    return sorted(pairs | alike)


def _equal_files(pictures: Sequence[AnnotatedPicture]) -> Iterator[tuple[int, int]]:
    same: dict[bytes, int] = {}
    for index, picture in enumerate(pictures):
        first = same.setdefault(picture.file.digest, index)
        if first != index:
            yield first, index


def _details(pictures: Sequence[AnnotatedPicture]) -> Vectors:
    """[N, D] unit vectors of what the thumbnails show beyond a blurred picture."""
    rows = np.zeros((len(pictures), THUMBNAIL * THUMBNAIL), np.float32)
    for row, picture in zip(rows, pictures, strict=True):
        values = picture.file.thumbnail.astype(np.float32)
        fine = values - cv2.GaussianBlur(values, (0, 0), 2)
        row[:] = fine.ravel() / max(float(np.linalg.norm(fine)), 1e-6)
    return rows


def groups(pictures: Sequence[AnnotatedPicture], vectors: Vectors) -> list[list[int]]:
    """Pictures that must stay together: near-duplicates and frames of a video, by their indices.

    Frames have names that differ in their last number only, by at most 5, and look alike. A group
    of more than a tenth of all pictures (a long video, a camera that stands still) is cut into
    runs of neighbours by name, so that the pictures can be divided at all.

    Args:
        pictures: the pictures.
        vectors: their `looks`.
    """
    pairs = [*near_duplicates(pictures, vectors), *_frames(pictures, vectors)]
    most = max(_SMALL_GROUP, len(pictures) // 10)
    whole = []
    for group in _components(len(pictures), pairs):
        if len(group) <= most:
            whole.append(group)
            continue
        ordered = sorted(group, key=lambda index: pictures[index].name)
        whole += [ordered[start : start + most] for start in range(0, len(ordered), most)]
    # Equal files that were cut apart come together again.
    place = {index: number for number, group in enumerate(whole) for index in group}
    for first, other in _equal_files(pictures):
        if place[first] != place[other]:
            whole[place[other]].remove(other)
            whole[place[first]].append(other)
            place[other] = place[first]
    return [group for group in whole if group]


def _components(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """What hangs together, directly or through others."""
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for i, j in pairs:
        first, second = sorted((find(i), find(j)))
        leader[second] = first
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        members[find(index)].append(index)
    return list(members.values())


def _frames(pictures: Sequence[AnnotatedPicture], vectors: Vectors) -> Iterable[tuple[int, int]]:
    """Neighbours in a run of frames."""
    runs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        path = PurePosixPath(picture.name)
        match = _FRAME.search(path.stem)
        if match is not None and len(match[1]) < 18:
            start, end = path.stem[: match.start()], path.stem[match.end() :]
            runs[str(path.with_name(start)) if start else f"{path.parent}/", end].append(
                (int(match[1]), index)
            )
    for run in runs.values():
        run.sort()
        for (number, i), (after, j) in pairwise(run):
            if after - number <= _MOST_APART and float(vectors[i] @ vectors[j]) >= SAME_SCENE:
                yield i, j
