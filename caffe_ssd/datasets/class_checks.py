"""What can be wrong with classes: names, numbers of examples, two classes taken for each other."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.datasets.dataset import (
    BACKGROUND,
    ERROR,
    TEST,
    TRAIN,
    WARNING,
    AnnotatedPicture,
    Dataset,
    Notes,
    in_number,
)

FEW = 20
"""Fewer boxes of a class than this teach little."""

_ALIKE = 0.7
_RARE_SHARE = 0.1
_ENOUGH = 10  # boxes of a class whose sizes are to be told from another's
_GAIN = 3.0  # nats by which each box must fit the other class better

_PER_WORD = re.compile(r"[\s_\-.]+")


def check_classes(dataset: Dataset, notes: Notes) -> None:
    """Look at names and numbers of classes."""
    counts = dataset.boxes_of_class()
    if not any(counts.values()):
        notes.add(
            "no-boxes",
            ERROR,
            "not one picture has a box: there is nothing to learn; are the annotations elsewhere?",
        )
        return
    examples = _examples(dataset)
    _note_unusable(dataset.classes, examples, notes)
    _note_misspelt(counts, examples, notes)
    for name in dataset.classes:
        if 0 < counts[name] < FEW:
            boxes = in_number(f"{counts[name]} boxes")
            text = f"class {name!r} has {boxes}, which is little to learn from"
            notes.add_all("few", WARNING, text, examples[name])
    if dataset.is_split:
        _note_missing(dataset, notes, examples)
    _note_swapped(dataset, notes)


def _examples(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for picture in dataset.pictures:
        for name in dict.fromkeys(box.category for box in picture.boxes):
            found[name].append(picture.name)
    return found


def _note_unusable(
    classes: Sequence[str], examples: Mapping[str, Sequence[str]], notes: Notes
) -> None:
    """Names that label maps, annotations or logs cannot hold, or that stand for no object."""
    for name in classes:
        if not name.strip() or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            text = f"class {name!r} needs a name without line breaks and control characters"
            notes.add_all("class-name", ERROR, text, examples.get(name, [name]))
        elif name == BACKGROUND:
            text = f"a class is called {name!r}, which is the background's name in label maps"
            notes.add_all("class-name", ERROR, text, examples.get(name, [name]))
        elif name.casefold() == "background":
            text = (
                f"class {name!r} is learnt as objects like any other; if it means that there is "
                "nothing, leave its boxes out"
            )
            notes.add_all("class-name", WARNING, text, examples.get(name, [name]))


def _note_misspelt(
    counts: Counter[str], examples: Mapping[str, Sequence[str]], notes: Notes
) -> None:
    """Names that are alike, one of them rare, or that differ in case and blanks only."""
    for pair in combinations(sorted(counts), 2):
        rare, common = sorted(pair, key=lambda name: counts[name])
        plain = [_PER_WORD.sub("", name).casefold() for name in (rare, common)]
        is_rare = counts[rare] <= max(3, _RARE_SHARE * counts[common])
        is_alike = SequenceMatcher(
            None, plain[0], plain[1]
        ).ratio() >= _ALIKE and not _are_numbered(*plain)
        if plain[0] == plain[1] or (is_rare and is_alike and counts[rare] < counts[common]):
            notes.add_all(
                "misspelt",
                WARNING,
                f"class {rare!r} ({in_number(f'{counts[rare]} boxes')}) may be class {common!r} "
                f"({in_number(f'{counts[common]} boxes')}), misspelt",
                examples.get(rare) or [rare],
            )


def _are_numbered(one: str, other: str) -> bool:
    """Whether two names differ in a number, as class1 and class2 do."""
    return re.sub(r"\d+", "", one) == re.sub(r"\d+", "", other) and one != other


def _note_missing(dataset: Dataset, notes: Notes, examples: Mapping[str, Sequence[str]]) -> None:
    has = {
        part: {box.category for picture in dataset.part(part) for box in picture.boxes}
        for part in (TRAIN, TEST)
    }
    for name in sorted(has[TEST] - has[TRAIN]):
        text = f"class {name!r} is in the test part only: it cannot be learnt"
        notes.add_all("not-in-train", ERROR, text, examples[name])
    for name in sorted(has[TRAIN] - has[TEST]):
        text = f"class {name!r} is in the training part only: its score cannot be told"
        notes.add_all("not-in-test", WARNING, text, examples[name])


def _note_swapped(dataset: Dataset, notes: Notes) -> None:
    """Pictures on which all boxes of two classes have the sizes of the other class."""
    models = _size_models(dataset)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for picture in dataset.pictures:
        sizes = _sizes(picture)
        for pair in combinations(sorted(sizes.keys() & models.keys()), 2):
            one, other = (_gain(sizes[a], models[a], models[b]) for a, b in (pair, pair[::-1]))
            if min(one, other) > _GAIN:
                found[pair].append(picture.name)
    for (one_name, other_name), names in found.items():
        notes.add_all(
            "classes-swapped",
            WARNING,
            f"{{n}} pictures on which {one_name!r} and {other_name!r} may be swapped: their boxes "
            "have the other class's sizes",
            names,
        )


def _sizes(picture: AnnotatedPicture) -> dict[str, NDArray[np.float64]]:
    """Logarithms of width and height of each class's boxes as shares of the picture, [N, 2]."""
    height, width = picture.size
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for box in picture.boxes:
        xmin, ymin, xmax, ymax = box.corners_px
        if xmax > xmin and ymax > ymin:
            shares = (math.log((xmax - xmin) / width), math.log((ymax - ymin) / height))
            rows[box.category].append(shares)
    return {name: np.array(each) for name, each in rows.items()}


def _size_models(dataset: Dataset) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Median and spread of these numbers for every class with enough boxes."""
    collected: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for picture in dataset.pictures:
        for name, rows in _sizes(picture).items():
            collected[name].append(rows)
    models = {}
    for name, parts in collected.items():
        rows = np.concatenate(parts)
        if len(rows) >= _ENOUGH:
            median = np.median(rows, 0)
            spread = 1.4826 * np.median(np.abs(rows - median), 0)
            models[name] = (median, spread.clip(0.1))
    return models


def _gain(
    sizes: NDArray[np.float64],
    own: tuple[NDArray[np.float64], NDArray[np.float64]],
    other: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> float:
    """By how many nats even the worst of the boxes fits the other class better."""

    def fit(model: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float64]:
        median, spread = model
        rows: NDArray[np.float64] = -((sizes - median) ** 2) / (2 * spread**2) - np.log(spread)
        return np.asarray(rows.sum(1))

    return float((fit(other) - fit(own)).min())
