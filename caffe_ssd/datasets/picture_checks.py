"""What can be wrong with pictures: damage, channels, sizes, names, copies, leaks."""

from __future__ import annotations

import re
from collections import defaultdict
from math import log
from statistics import median

from caffe_ssd.datasets.dataset import ERROR, NOTE, TEST, TRAIN, WARNING, Dataset, Notes
from caffe_ssd.datasets.likeness import MOST_COMPARED, groups, looks, near_duplicates

_MUCH, _ODD = 3.0, 2.5
_MOST_ODD = 20
_PLAIN = re.compile(r"[\x21-\x7e]+")


def check_pictures(dataset: Dataset, notes: Notes) -> None:
    """Look at every picture."""
    _note_files(dataset, notes)
    _note_sizes(dataset, notes)
    _note_copies(dataset, notes)


def _note_files(dataset: Dataset, notes: Notes) -> None:
    pictures = dataset.pictures
    damaged = [p.name for p in pictures if p.file.damage]
    notes.add_all("cut-off", WARNING, "{n} JPEG files end too early; the rest is grey", damaged)
    gray = [p.name for p in pictures if p.file.channels == 1]
    everywhere = len(gray) == len(pictures)
    notes.add_all(
        "gray",
        NOTE if everywhere else WARNING,
        "all {n} pictures are gray; they are trained on as colour pictures"
        if everywhere
        else "{n} pictures are gray, the others are not: data layers need all alike. `caffe fit` "
        "stores them in colour; other ways need transform_param.force_color",
        gray,
    )
    odd = [p.name for p in pictures if p.file.channels not in (1, 3) or p.file.is_deep]
    notes.add_all(
        "channels",
        WARNING,
        "{n} pictures have transparency or more than 8 bits per channel: data layers refuse them "
        "as they are. `caffe fit` stores them in plain colour",
        odd,
    )
    bare = [p.name for p in pictures if not p.boxes]
    if len(bare) < len(pictures):
        text = "{n} pictures have no boxes: all on them is learnt as background"
        notes.add_all("no-boxes", WARNING, text, bare)
    blank = [p.name for p in pictures if re.search(r"\s", p.name)]
    notes.add_all("blank-names", NOTE, "{n} names have blanks, which lists cannot hold", blank)
    foreign = [p.name for p in pictures if not _PLAIN.fullmatch(p.name) and p.name not in blank]
    text = "{n} names have letters beyond ASCII; all parts of this program take them"
    notes.add_all("unicode-names", NOTE, text, foreign)


def _note_sizes(dataset: Dataset, notes: Notes) -> None:
    """Sizes matter little, as pictures are scaled; very different shapes are distorted by that."""
    sizes = {picture.size for picture in dataset.pictures}
    if len(sizes) < 2:
        return
    heights, widths = zip(*sizes, strict=True)
    ratios = {picture.name: picture.size[1] / picture.size[0] for picture in dataset.pictures}
    low, high = min(ratios.values()), max(ratios.values())
    differ = high / low >= _MUCH
    text = (
        f"pictures have {len(sizes)} sizes, {min(heights)} to {max(heights)} pixels high and "
        f"{min(widths)} to {max(widths)} wide"
    )
    if differ:
        text += (
            f", and shapes from {low:.2f} to {high:.2f} (width over height): all are squeezed into "
            "one input, which distorts their objects differently"
        )
    notes.add("sizes", WARNING if differ else NOTE, text)
    if differ:
        usual = median(ratios.values())
        apart = {name: abs(log(ratio / usual)) for name, ratio in ratios.items()}
        oddest = sorted(apart, key=lambda name: -apart[name])[:_MOST_ODD]
        for name in oddest:
            if apart[name] > log(_ODD):
                notes.add("sizes", WARNING, text, name)


def _note_copies(dataset: Dataset, notes: Notes) -> None:
    pictures = dataset.pictures
    if len(pictures) > MOST_COMPARED:
        text = f"more than {MOST_COMPARED} pictures: only equal files were looked for"
        notes.add("not-compared", NOTE, text)
    found: dict[str, list[str]] = defaultdict(list)
    vectors = looks(pictures)
    leaking: set[int] = set()
    for i, j in near_duplicates(pictures, vectors):
        one, other = pictures[i], pictures[j]
        same = "equal" if one.file.digest == other.file.digest else "alike"
        crosses = {one.split, other.split} == {TRAIN, TEST}
        leaking.update({i, j} if crosses else ())
        found[f"{same}-{crosses}"] += [f"{one.name} = {other.name}"]
    add = notes.add_all
    add(
        "leak", ERROR, "{n} pictures are in both train and test, the same file", found["equal-True"]
    )
    text = "{n} pairs of nearly equal pictures, one in train and one in test: scores will flatter"
    add("near-leak", WARNING, text, found["alike-True"])
    add("copy", WARNING, "{n} pictures are there twice", found["equal-False"])
    add("near-copy", NOTE, "{n} pairs of nearly equal pictures", found["alike-False"])
    if dataset.is_split and len(pictures) <= MOST_COMPARED:
        runs = [
            pictures[index].name
            for group in groups(pictures, vectors)
            if {pictures[index].split for index in group} >= {TRAIN, TEST}
            for index in group
            if index not in leaking
        ]
        text = "{n} frames of videos that are partly in train and partly in test"
        add("video-leak", WARNING, text, runs)
