"""What was found on one picture: the value that detectors, drawers and writers share."""

from __future__ import annotations

import html
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.drawing import DrawnBox, Pen, draw_boxes_on
from caffe_ssd.errors import UsageError
from caffe_ssd.scoring.sources import Picture

_COLUMNS = ("class", "score", "xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class DetectedObject:
    """One object.

    Args:
        label: the class.
        name: the class's name, or its number as text.
        score: in [0, 1].
        box: xmin, ymin, xmax, ymax; normalised, and may leave [0, 1] a little.
        box_px: the same in pixels, clipped to the picture.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    box_px: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Detections:
    """The objects on one picture, best first. It has a length and can be walked through.

    Args:
        source: the picture's file, the video, `camera N` or `array N`.
        size: (height, width) of the picture.
        label: classes, int64 [D].
        score: in [0, 1], float32 [D].
        box: xmin, ymin, xmax, ymax, float32 [D, 4]; normalised, and may leave [0, 1] a little.
        class_names: names for people by label; a class without one shows its number.
        frame: number of the frame of a video or camera, from 0; None for pictures.
    """

    source: str
    size: tuple[int, int]
    label: NDArray[np.int64]
    score: NDArray[np.float32]
    box: NDArray[np.float32]
    class_names: Mapping[int, str] = field(default_factory=dict)
    frame: int | None = None
    # Weak, so that who keeps the detections of many pictures does not keep the pictures.
    _picture: weakref.ref[Picture] | None = None

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[DetectedObject]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> DetectedObject:
        xmin, ymin, xmax, ymax = self.box[index].tolist()
        left, top, right, bottom = self.box_px[index].tolist()
        return DetectedObject(
            label=int(self.label[index]),
            name=self.names[index],
            score=float(self.score[index]),
            box=(xmin, ymin, xmax, ymax),
            box_px=(left, top, right, bottom),
        )

    @cached_property
    def names(self) -> list[str]:
        """The classes' names, or their numbers as text. [D]."""
        return [self.class_names.get(label, str(label)) for label in self.label.tolist()]

    @cached_property
    def box_px(self) -> NDArray[np.int64]:
        """xmin, ymin, xmax, ymax in whole pixels, clipped to the picture, int64 [D, 4]."""
        height, width = self.size
        corners = self.box.astype(np.float64).clip(0, 1) * (width, height, width, height)
        return np.rint(corners).astype(np.int64)

    def above(self, threshold: float) -> Detections:
        """The objects whose score is at least this."""
        keep = self.score.astype(np.float64) >= threshold
        return replace(self, label=self.label[keep], score=self.score[keep], box=self.box[keep])

    def draw(self, picture: Picture | None = None) -> Picture:
        """A copy of the picture with a box, a name and a score per object, the best on top.

        Args:
            picture: (height, width, 3), BGR, uint8; None for the one the objects were found on, as
                long as somebody holds it.

        Raises:
            UsageError: nobody holds the picture any more.
        """
        if picture is None:
            picture = None if self._picture is None else self._picture()
        if picture is None:
            raise UsageError(
                f"the picture of {self.place} is gone, as nobody kept it; give it: draw(picture)"
            )
        boxes = [
            DrawnBox(label=each.label, text=f"{each.name} {each.score:.2f}", corners=self.box[i])
            for i, each in reversed(list(enumerate(self)))
        ]
        return draw_boxes_on(picture, boxes, Pen.for_size(*picture.shape[:2]))

    @property
    def place(self) -> str:
        """The source and, of a video or camera, the frame; for people."""
        return self.source if self.frame is None else f"{self.source} frame {self.frame}"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers and texts, for JSON."""
        height, width = self.size
        return {
            "image": self.source,
            **({} if self.frame is None else {"frame": self.frame}),
            "width": width,
            "height": height,
            "detections": [
                {
                    "label": each.label,
                    "class": each.name,
                    "score": each.score,
                    "box": each.box,
                    "box_px": each.box_px,
                }
                for each in self
            ],
        }

    def counts(self) -> str:
        """How many objects of each class, the most frequent first: "3 RBC, 1 WBC"."""
        counted = Counter(self.names).most_common()
        return ", ".join(f"{count} {name}" for name, count in counted) or "nothing found"

    def table(self) -> str:
        """A line of text per object: class, score and box in pixels."""
        if not len(self):
            return "nothing found"
        column = max(len(text) for text in (_COLUMNS[0], *self.names))
        lines = [f"{'class':<{column}}  score   xmin   ymin   xmax   ymax"]
        for each in self:
            box = "".join(f"{value:7d}" for value in each.box_px)
            lines.append(f"{each.name:<{column}}  {each.score:.3f}{box}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        height, width = self.size
        return f"{self.place} ({width} x {height}): {len(self)} objects\n{self.table()}"

    def _repr_html_(self) -> str:
        rows = [_COLUMNS, *((o.name, f"{o.score:.3f}", *map(str, o.box_px)) for o in self)]
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        height, width = self.size
        title = f"{html.escape(self.place)} ({width} x {height}): {len(self)} objects"
        return f"<table><caption>{title}</caption>{body}</table>"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles, which leave the picture behind."""
        return self.__dict__ | {"_picture": None}
