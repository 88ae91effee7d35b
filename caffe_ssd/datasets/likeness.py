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

NEAR_DUPLICATE = 0.98
"""Least correlation of two thumbnails of what is one picture, scaled or compressed anew."""
SAME_SCENE = 0.80
"""Least correlation of two frames of a video; names must tell, too."""
MOST_COMPARED = 30_000
"""Beyond so many pictures only equal files are found: all pairs would take minutes."""

_BLOCK = 1024
_FLAT = 2.0
_FRAME = re.compile(r"(\d+)(?!.*\d)")
_MOST_APART = 5

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

    Args:
        pictures: the pictures.
        vectors: their `looks`.
    """
    pairs = set()
    same: dict[bytes, int] = {}
    for index, picture in enumerate(pictures):
        first = same.setdefault(picture.file.digest, index)
        if first != index:
            pairs.add((first, index))
    if len(pictures) <= MOST_COMPARED:
        for i, j, _ in alike_pairs(vectors, NEAR_DUPLICATE):
            if _agree_in_detail(pictures[i], pictures[j]):
                pairs.add((i, j))
    return sorted(pairs)


def _agree_in_detail(one: AnnotatedPicture, other: AnnotatedPicture) -> bool:
    """Whether what the thumbnails show beyond a blurred picture is the same, too."""
    details = []
    for picture in (one, other):
        values = picture.file.thumbnail.astype(np.float32)
        fine = values - cv2.GaussianBlur(values, (0, 0), 2)
        length = float(np.linalg.norm(fine))
        if length == 0:
            return True
        details.append(fine.ravel() / length)
    return float(details[0] @ details[1]) >= 0.9


def groups(pictures: Sequence[AnnotatedPicture], vectors: Vectors) -> list[list[int]]:
    """Pictures that must stay together: near-duplicates and frames of a video, by their indices.

    Frames have names that differ in their last number only, by at most 5, and look alike.

    Args:
        pictures: the pictures.
        vectors: their `looks`.
    """
    leader = list(range(len(pictures)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for i, j in [*near_duplicates(pictures, vectors), *_frames(pictures, vectors)]:
        first, second = sorted((find(i), find(j)))
        leader[second] = first
    members: dict[int, list[int]] = defaultdict(list)
    for index in range(len(pictures)):
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
