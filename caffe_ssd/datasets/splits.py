"""Which pictures a folder itself gives to training and to testing.

Told by the annotations (CVAT's subsets, COCO's files), by folders (`train`, `val2017`) or by lists
(VOC's ImageSets, Darknet's and this project's lists).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from caffe_ssd.datasets.dataset import (
    ERROR,
    NO_SPLIT,
    NOTE,
    TEST,
    TRAIN,
    WARNING,
    AnnotatedPicture,
    Notes,
)
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.errors import CaffeError
from caffe_ssd.files import read_text

VAL = "val"
_WORDS = {
    **dict.fromkeys(("train", "training", "trainval"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "minival", "dev"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}
_WORD = re.compile(r"[a-z]+")
_LISTS = ("train", "trainval", "val", "valid", "test")


def split_of_word(text: str) -> str:
    """train, val or test if a name says so, as `train2017` and `instances_val2017` do."""
    for word in reversed(_WORD.findall(text.lower())):
        if word in _WORDS:
            return _WORDS[word]
    return NO_SPLIT


def split_of_path(name: str) -> str:
    """What a folder of a path says, the innermost first."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        words = [word for word in _WORD.findall(part.lower()) if word in _WORDS]
        if len(words) == 1 and len(_WORD.findall(part.lower())) == 1:
            return _WORDS[words[0]]
    return NO_SPLIT


def settle_splits(
    pictures: Sequence[AnnotatedPicture], folder: Folder, notes: Notes
) -> list[AnnotatedPicture]:
    """Give every picture the split that the folder states: train, test or none.

    Where there are train, val and test, val goes to training, as in VOC's trainval; where there is
    no annotated test part, val is what is tested on.
    """
    listed = _from_lists(folder, notes)
    told = {
        picture.name: listed.get(picture.name, "") or picture.split or split_of_path(picture.name)
        for picture in pictures
    }
    has = {
        split: any(told[p.name] == split and p.boxes for p in pictures) for split in told.values()
    }
    if not has.get(TRAIN) or not (has.get(TEST) or has.get(VAL)):
        return [replace(picture, split=NO_SPLIT) for picture in pictures]
    meaning = {TRAIN: TRAIN, TEST: TEST, VAL: TRAIN if has.get(TEST) else TEST, NO_SPLIT: NO_SPLIT}
    if VAL in told.values():
        part = "training" if has.get(TEST) else "testing"
        notes.add("split", NOTE, f"the folder's validation part is used for {part}")
    if TEST in told.values() and not has.get(TEST):
        meaning[TEST] = NO_SPLIT
        notes.add("split", NOTE, "the folder's test part has no boxes and is not used")
    settled = [replace(picture, split=meaning[told[picture.name]]) for picture in pictures]
    notes.add_all(
        "no-split",
        WARNING,
        "{n} pictures belong to neither train nor test; they are not used",
        [p.name for p in settled if not p.split and told[p.name] == NO_SPLIT],
    )
    return settled


def _from_lists(folder: Folder, notes: Notes) -> dict[str, str]:
    """What lists of pictures say; VOC's of single classes (`dog_train.txt`) are not read."""
    found: dict[str, str] = {}
    places = ("", "ImageSets/Main/", "ImageSets/", "data/")
    names = [f"{place}{each}.txt" for place in places for each in _LISTS]
    for name in filter(folder.holds, names):
        split = split_of_word(PurePosixPath(name).stem)
        for picture in _listed_pictures(folder, name, notes):
            before = found.setdefault(picture, split)
            if before != split and TEST in (before, split):
                notes.add(
                    "in-both-lists",
                    ERROR,
                    "pictures that stand in the lists of both training and testing",
                    picture,
                )
    return found


def _listed_pictures(folder: Folder, name: str, notes: Notes) -> list[str]:
    try:
        lines = read_text(folder.path(name)).splitlines()
    except CaffeError as error:
        notes.add("list", WARNING, f"a list that cannot be read: {error}", name)
        return []
    found = []
    for line in lines:
        words = line.split()
        picture = _picture_of(folder, line.strip(), name) if words else None
        if picture is None and words:
            picture = _picture_of(folder, words[0], name)
        if picture is not None:
            found.append(picture)
    return found


def _picture_of(folder: Folder, word: str, near: str) -> str | None:
    named = folder.picture_named(word, near)
    return folder.picture_beside(f"{word}.xml") if named is None else named
