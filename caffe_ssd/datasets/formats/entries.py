"""What the readers of formats give: a picture's name and its boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets.dataset import ERROR, WARNING, Dataset, Notes
from caffe_ssd.datasets.folder import Folder


@dataclass(kw_only=True)
class Entry:
    """One picture as annotations tell it.

    Args:
        picture: its file, relative to the folder.
        annotation: where that stands, relative to the folder; nothing for no annotation.
        boxes: in pixels of the picture that was annotated.
        size: (height, width) that is stated; None where none is.
        split: train, val, test or nothing.
    """

    picture: str
    annotation: str
    boxes: list[AnnotatedBox] = field(default_factory=list)
    size: tuple[int, int] | None = None
    split: str = ""


@dataclass(kw_only=True)
class Reading:
    """What a reader fills.

    Args:
        folder: the files.
        entries: a picture each.
        classes: those that are declared, in the order of their numbers.
        notes: what was found on the way.
    """

    folder: Folder
    entries: list[Entry] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def damaged(self, annotation: str, why: object) -> None:
        """Note an annotation file that is left out."""
        reason = str(why).replace(self.folder.path(annotation), annotation)
        where = reason if reason.startswith(annotation) else f"{annotation}: {reason}"
        text = "annotations that cannot be used; they are left out"
        self.notes.add("damaged-annotation", ERROR, text, where)

    def missing(self, picture: str, annotation: str) -> None:
        """Note a picture that is named but not there."""
        text = "annotations whose picture is missing, or of whose name there are several"
        where = annotation if annotation.endswith(picture) else f"{picture} ({annotation})"
        self.notes.add("no-picture", ERROR, text, where)

    def unannotated(self) -> None:
        """Note the pictures that no entry names; they are left out."""
        named = {entry.picture for entry in self.entries}
        self.notes.add_all(
            "not-annotated",
            WARNING,
            "{n} pictures have no annotation; they are left out, as objects on them would be "
            "learnt as background",
            [name for name in self.folder.pictures if name not in named],
        )


@dataclass(frozen=True, kw_only=True)
class Format:
    """A way of writing annotations down.

    Args:
        name: as users give it.
        title: its name for people.
        recognise: the annotation files of a folder that are in this format.
        read: reads these files.
        write: writes a data set to a new, empty folder; returns what the format cannot hold,
            counted.
    """

    name: str
    title: str
    recognise: Callable[[Folder], list[str]]
    read: Callable[[Reading, list[str]], None]
    write: Callable[[Dataset, str], dict[str, int]]

    def __hash__(self) -> int:
        return hash(self.name)
