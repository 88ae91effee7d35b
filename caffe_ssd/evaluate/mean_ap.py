"""Mean average precision over a test set, from what DetectionEvaluate puts out batch by batch.

Spec: ssd-data.md section 5; caffe-solver.md section 6.
Quirk: a class without objects or without detections counts as 0 in the mean.
Quirk: equal scores keep the order in which they arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.boxes.average_precision import AP_VERSIONS, average_precision
from caffe_ssd.errors import DataError, UsageError

_WIDTH = 5
_HEADER = -1


@dataclass(frozen=True, kw_only=True)
class MeanAP:
    """The result.

    Args:
        value: mean over all classes, a fraction.
        per_class: average precision by label, ascending.
        without_detections: labels of which nothing was detected, ascending.
        any_detections: whether there was one at all; the reference reports nothing otherwise.
        num_objects: in the truth, by label.
    """

    value: float
    per_class: Mapping[int, float]
    without_detections: tuple[int, ...]
    any_detections: bool
    num_objects: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class JudgedClass:
    """The detections of a class that count, in the order in which they arrived.

    Args:
        scores: [D], float32.
        is_tp: [D], whether it found an object.
        num_pos: objects to be found.
    """

    scores: NDArray[np.float32]
    is_tp: NDArray[np.bool_]
    num_pos: int


class MeanAPAccumulator:
    """Collects rows and evaluates them; may be asked at any time.

    Args:
        version: `11point`, `MaxIntegral` or `Integral`.

    Raises:
        UsageError: unknown version.
    """

    def __init__(self, version: str = "Integral") -> None:
        if version not in AP_VERSIONS:
            raise UsageError(f"unknown ap_version {version!r}; known: {', '.join(AP_VERSIONS)}")
        self.version = version
        self._num_pos: dict[int, int] = {}
        self._rows: list[NDArray[np.float32]] = []

    def update(self, rows: NDArray[Any]) -> None:
        """Add the top of one DetectionEvaluate forward.

        Args:
            rows: [..., 5] rows (image, label, score, tp, fp); image -1 announces a class, with its
                number of objects in place of the score.

        Raises:
            DataError: the last axis is not 5 long, or a value is not finite.
        """
        if rows.ndim == 0 or rows.shape[-1] != _WIDTH:
            raise DataError(
                f"rows for mean average precision must have {_WIDTH} columns, as the top of a "
                f"DetectionEvaluate layer has; got shape {rows.shape}"
            )
        table = np.asarray(rows, np.float32).reshape(-1, _WIDTH)
        if not np.isfinite(table).all():
            raise DataError("rows for mean average precision hold a score that is not finite")
        is_header = table[:, 0] == _HEADER
        for label, count in table[is_header, 1:3].astype(np.int64).tolist():
            self._num_pos[label] = self._num_pos.get(label, 0) + count
        counted = ~is_header & ((table[:, 3] != 0) | (table[:, 4] != 0))
        self._rows.append(table[counted, 1:4])

    def compute(self) -> MeanAP:
        """Evaluate what was added so far; 0 if there are no classes.

        Raises:
            DataError: a class has more true positives than objects.
        """
        classes = self.classes()
        per_class = {
            label: average_precision(each.scores, each.is_tp, each.num_pos, version=self.version)
            for label, each in classes.items()
        }
        total = np.float32(0)  # the reference adds in float32
        for value in per_class.values():
            total += np.float32(value)
        return MeanAP(
            value=float(total / np.float32(len(per_class))) if per_class else 0.0,
            per_class=per_class,
            without_detections=tuple(k for k, each in classes.items() if not len(each.scores)),
            any_detections=any(len(rows) for rows in self._rows),
            num_objects={label: each.num_pos for label, each in classes.items()},
        )

    def classes(self) -> dict[int, JudgedClass]:
        """What was added so far, by label, ascending."""
        table = np.concatenate([np.empty((0, 3), np.float32), *self._rows])
        labels = table[:, 0].astype(np.int64)
        order = np.argsort(labels, kind="stable")
        table, labels = table[order], labels[order]
        known = sorted(self._num_pos)
        starts, ends = (np.searchsorted(labels, known, side) for side in ("left", "right"))
        return {
            label: JudgedClass(
                scores=table[start:end, 1],
                is_tp=table[start:end, 2] > 0,
                num_pos=self._num_pos[label],
            )
            for label, start, end in zip(known, starts, ends, strict=True)
        }
