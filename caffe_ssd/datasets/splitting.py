"""Divides a data set into train and test: `split`.

Stratified by the method of Sechidis et al. (2011): the rarest class that is left goes first, each
picture to the part that lacks most of it. What belongs together (`likeness.groups`) stays together.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from caffe_ssd.datasets.dataset import NOTE, TEST, TRAIN, Dataset, Finding
from caffe_ssd.datasets.likeness import groups, looks
from caffe_ssd.errors import DataError, UsageError, plural

_MOST_SHOWN = 20


def split(dataset: Dataset, test_share: float = 0.2, seed: int = 0) -> Dataset:
    """The data set with each picture in train or test; a division it has is kept.

    Args:
        dataset: what was read.
        test_share: of the pictures and of each class's boxes for testing, above 0 and below 1.
        seed: another one, another division.

    Raises:
        UsageError: the share is out of range.
        DataError: there are fewer than two pictures that may be parted.
    """
    if not 0 < test_share < 1:
        raise UsageError(f"test_share is {test_share:g}; allowed: above 0 and below 1")
    if dataset.is_split:
        return dataset
    together = groups(dataset.pictures, looks(dataset.pictures))
    if len(together) < 2:
        raise DataError(
            f"{dataset.root}: {plural(len(dataset.pictures), 'picture')} cannot be divided into "
            "train and test: all look like one picture or one video; add others, or divide the "
            "folder yourself (folders train/ and test/)"
        )
    chosen = _choose(dataset, together, test_share, seed)
    in_test = {index for number in chosen for index in together[number]}
    pictures = [
        replace(picture, split=TEST if index in in_test else TRAIN)
        for index, picture in enumerate(dataset.pictures)
    ]
    return replace(
        dataset, pictures=pictures, findings=[*dataset.findings, *_findings(dataset, together)]
    )


def _choose(dataset: Dataset, together: list[list[int]], test_share: float, seed: int) -> set[int]:
    """The groups for testing, by their numbers."""
    contents = [
        Counter(box.category for index in group for box in dataset.pictures[index].boxes)
        for group in together
    ]
    sizes = [len(group) for group in together]
    need = {name: test_share * count for name, count in sum(contents, Counter[str]()).items()}
    room = max(1.0, test_share * sum(sizes))
    left = list(range(len(together)))
    random.Random(seed).shuffle(left)
    chosen: set[int] = set()
    while left:
        name = _rarest(contents, left)
        each = [number for number in left if name is None or contents[number][name]]
        # Large groups first: there is still room for them on either side.
        each.sort(key=lambda number: -sizes[number])
        for number in each:
            wanted = need[name] - contents[number][name] / 2 if name is not None else room
            if wanted > 0 and room - sizes[number] / 2 >= 0 and len(chosen) + 1 < len(together):
                chosen.add(number)
                room -= sizes[number]
                for category, count in contents[number].items():
                    need[category] -= count
        taken = set(each)
        left = [number for number in left if number not in taken]
    if not chosen:
        chosen.add(min(range(len(together)), key=lambda number: sizes[number]))
    return chosen


def _rarest(contents: list[Counter[str]], left: list[int]) -> str | None:
    """The class with the fewest boxes in what is left; None if there is no box."""
    counts = sum((contents[number] for number in left), Counter[str]())
    return min(counts, key=lambda name: (counts[name], name), default=None)


def _findings(dataset: Dataset, together: list[list[int]]) -> list[Finding]:
    kept = sorted((group for group in together if len(group) > 1), key=len, reverse=True)
    if not kept:
        return []
    names = [dataset.pictures[index].name for group in kept for index in group]
    return [
        Finding(
            kind="kept-together",
            severity=NOTE,
            text=f"{len(names)} pictures in {len(kept)} groups look alike or are frames of one "
            "video; each group went to one part as a whole",
            where=tuple(names),
        )
    ]
