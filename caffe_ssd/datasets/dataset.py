"""What an annotated folder of pictures holds, whatever format it is in.

Boxes are in pixels of the picture as people see it: where a file's EXIF tag turns the picture, its
boxes and its size are those of the turned one. Corners are as the annotations have them; nothing
is shifted, sorted or cut (`repaired` does that).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.pictures import PictureFile

TRAIN, TEST, NO_SPLIT = "train", "test", ""
BACKGROUND = "none_of_the_above"  # its name in label maps

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that its owner should know of a data set.

    Args:
        kind: a short name, as `outside`; the table in docs/data.md lists all.
        severity: error (training on it would be wrong), warning (look at it) or note.
        text: a sentence or two: what was found and what it means.
        where: the pictures or annotation files, relative to the data set's folder.
    """

    kind: str
    severity: str
    text: str
    where: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class AnnotatedPicture:
    """One picture and its objects.

    Args:
        path: the picture's file; the database that holds it, if it is a record.
        name: the same, relative to the data set's folder, with slashes.
        file: what the file is.
        boxes: the objects, in the order of the annotations.
        split: train, test, or nothing where the folder is not divided.
        annotation_path: where the boxes come from; nothing if a picture has no annotations. The
            key, if it is a record.
    """

    path: str
    name: str
    file: PictureFile
    boxes: list[AnnotatedBox]
    split: str = NO_SPLIT
    annotation_path: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the picture as people see it."""
        return self.file.size


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder that was read.

    Args:
        root: the folder.
        format: a key of `caffe_ssd.datasets.FORMATS`.
        reason: by what the format was recognised, for people.
        pictures: those that can be read and whose annotations can, sorted by name.
        classes: names of the classes in the order of their labels, from 1; the background is none
            of them.
        findings: what reading it showed.
    """

    root: str
    format: str
    reason: str = ""
    pictures: list[AnnotatedPicture]
    classes: list[str]
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_split(self) -> bool:
        """Whether its pictures are divided into train and test."""
        return any(picture.split for picture in self.pictures)

    def part(self, split: str) -> list[AnnotatedPicture]:
        """The pictures of a split."""
        return [picture for picture in self.pictures if picture.split == split]

    def boxes_of_class(self) -> Counter[str]:
        """How many boxes each class has; classes without one have 0."""
        counts = Counter(dict.fromkeys(self.classes, 0))
        counts.update(box.category for picture in self.pictures for box in picture.boxes)
        return counts


def in_number(text: str) -> str:
    """A text that begins with a number and a plural, as it reads for that number."""
    if not text.startswith("1 "):
        return text
    if not text.startswith("1 of "):
        nouns = r"\b(boxes|pictures|objects|pairs|names|frames|files)\b"
        text = re.sub(nouns, _singular, text, count=1)
    return re.sub(r"\b(are|have|lie|reach|end)\b", _singular, text, count=1)


def _singular(match: re.Match[str]) -> str:
    words = {"boxes": "box", "are": "is", "have": "has", "reach": "reaches"}
    if match[0] in words:
        return words[match[0]]
    return match[0][:-1] if match[0].endswith("s") else f"{match[0]}s"


class Notes:
    """Collects findings; what is said in the same words of several files becomes one."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], list[str]] = {}

    def add(self, kind: str, severity: str, text: str, where: str | Path = "") -> None:
        """Note a finding of one file; `text` holds nothing that is true of this file only."""
        places = self._found.setdefault((kind, severity, text), [])
        if where:
            places.append(str(where))

    def add_all(self, kind: str, severity: str, text: str, where: Iterable[str]) -> None:
        """Note a finding of several files, if there are any; `{n}` in the text is their number."""
        places = list(dict.fromkeys(where))
        if places:
            text = in_number(text.replace("{n}", str(len(places))))
            self._found.setdefault((kind, severity, text), []).extend(places)

    def findings(self) -> list[Finding]:
        """What was collected, errors first."""
        found = [
            Finding(kind=kind, severity=severity, text=text, where=tuple(dict.fromkeys(where)))
            for (kind, severity, text), where in self._found.items()
        ]
        return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
