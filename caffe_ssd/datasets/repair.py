"""Makes boxes fit to be trained on: `repaired`. What it does is said in findings."""

from __future__ import annotations

from dataclasses import replace

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import NOTE, AnnotatedPicture, Dataset, Finding, Notes

_SORTED = "boxes with swapped corners; they were put in order"
_CUT = "boxes that leave their picture; they were cut to it"
_EMPTY = "boxes without area; they were left out"
_TWICE = "boxes that stand twice; one was left out"


def repaired(dataset: Dataset) -> Dataset:
    """The data set with corners sorted, boxes cut to their pictures, none empty, none twice.

    Pictures stay, also those that lose their last box. What was done becomes findings (`repair`).
    """
    notes = Notes()
    pictures = [replace(picture, boxes=_repaired(picture, notes)) for picture in dataset.pictures]
    found: list[Finding] = notes.findings()
    return replace(dataset, pictures=pictures, findings=[*dataset.findings, *found])


def _repaired(picture: AnnotatedPicture, notes: Notes) -> list[AnnotatedBox]:
    height, width = picture.size
    kept: list[AnnotatedBox] = []
    for box in picture.boxes:
        fixed, done = _fit(box, height, width)
        if fixed is None:
            done = [_EMPTY]
        elif fixed in kept:
            done = [_TWICE]
        else:
            kept.append(fixed)
        for text in done:
            notes.add("repair", NOTE, text, picture.name)
    return kept


def _fit(box: AnnotatedBox, height: int, width: int) -> tuple[AnnotatedBox | None, list[str]]:
    """The box as it should be, None if nothing is left of it, and what was done."""
    done = []
    left, top, right, bottom = box.corners_px
    if left > right or top > bottom:
        left, right = sorted((left, right))
        top, bottom = sorted((top, bottom))
        done.append(_SORTED)
    if min(left, top) < 0 or right > width or bottom > height:
        left, right = (min(max(value, 0.0), float(width)) for value in (left, right))
        top, bottom = (min(max(value, 0.0), float(height)) for value in (top, bottom))
        done.append(_CUT)
    if left >= right or top >= bottom:
        return None, done
    return AnnotatedBox(box.category, left, top, right, bottom, box.is_difficult), done
