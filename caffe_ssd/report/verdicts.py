"""What became of every detection above its class's threshold, and of every object.

A detection is right if the object of its class that it overlaps most (at least half) was not found
by a better one, as in the reference's scores; otherwise it is one of four kinds of errors. Overlaps
are those of the boxes in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.report.evaluation import MIN_OVERLAP, Evaluation, ImagePairs

_NEAR = 0.1  # an overlap below this is a coincidence


class Kind(Enum):
    """What a detection is."""

    RIGHT = "right"
    DOUBLED = "found twice"
    CONFUSED = "another class"
    MISPLACED = "badly placed"
    NOTHING = "nothing there"
    IGNORED = "a difficult object"


@dataclass(frozen=True)
class Verdict:
    """One detection.

    Args:
        found: its index in `Evaluation.found`.
        kind: what it is.
        object: index of the object that it is judged by; -1 without one.
        overlap: with that object.
    """

    found: int
    kind: Kind
    object: int
    overlap: float


@dataclass(frozen=True)
class Missed:
    """An object that no detection above the threshold found.

    Args:
        object: its index in `test_set.objects`.
        best_found: the detection of its class, of any score, that overlaps it by half and has the
            best score; -1 without one.
    """

    object: int
    best_found: int


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Everything above the thresholds.

    Args:
        found: one for each detection, by image, the best score first.
        missed: by image.
        confusion: [K + 1, K + 1] counts of true class and detected class; the last row is what was
            found where nothing of any class was left to find, the last column what was missed.
    """

    found: tuple[Verdict, ...]
    missed: tuple[Missed, ...]
    confusion: NDArray[np.int64]

    def of(self, kind: Kind) -> list[Verdict]:
        """Those of one kind."""
        return [each for each in self.found if each.kind is kind]

    def counts(self) -> Counter[Kind]:
        """How many there are of each kind."""
        return Counter(each.kind for each in self.found)


def judge(evaluation: Evaluation, thresholds: Sequence[float]) -> Verdicts:
    """Judge all detections from a threshold per class on."""
    found: list[Verdict] = []
    missed: list[Missed] = []
    num_classes = len(evaluation.names)
    confusion = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    least = np.array(thresholds)
    for pairs in evaluation.pairs():
        scores = evaluation.found.scores[pairs.found]
        is_kept = scores >= least[evaluation.found.category[pairs.found]]
        verdicts = _image_verdicts(evaluation, pairs, np.flatnonzero(is_kept))
        found += verdicts
        claimed = _count(evaluation, verdicts, confusion)
        right = {each.object for each in verdicts if each.kind is Kind.RIGHT}
        for place, index in enumerate(pairs.objects.tolist()):
            if index in right or not _counts(evaluation, index):
                continue
            missed.append(Missed(index, _best_found(evaluation, pairs, place)))
            if index not in claimed:
                confusion[evaluation.test_set.objects.category[index], -1] += 1
    return Verdicts(found=tuple(found), missed=tuple(missed), confusion=confusion)


def _image_verdicts(
    evaluation: Evaluation, pairs: ImagePairs, kept: NDArray[np.int64]
) -> list[Verdict]:
    """The verdicts on the detections at places `kept` of an image."""
    own = evaluation.found.category[pairs.found]
    truth = evaluation.test_set.objects.category[pairs.objects]
    taken: set[int] = set()
    verdicts = []
    for place in kept.tolist():
        overlap = pairs.overlap[place]
        same = np.where(truth == own[place], overlap, -1)
        other = np.where(truth == own[place], -1, overlap)
        best, rival = (int(v.argmax()) if len(v) else -1 for v in (same, other))
        kind, at = Kind.NOTHING, -1
        if best >= 0 and same[best] >= MIN_OVERLAP:
            at = best
            if not _counts(evaluation, int(pairs.objects[best])):
                kind = Kind.IGNORED
            else:
                kind = Kind.DOUBLED if best in taken else Kind.RIGHT
                taken.add(best)
        elif rival >= 0 and other[rival] >= MIN_OVERLAP:
            kind, at = Kind.CONFUSED, rival
        elif best >= 0 and same[best] >= _NEAR:
            kind, at = Kind.MISPLACED, best
        index = int(pairs.objects[at]) if at >= 0 else -1
        verdicts.append(
            Verdict(int(pairs.found[place]), kind, index, float(overlap[at]) if at >= 0 else 0.0)
        )
    return verdicts


def _count(
    evaluation: Evaluation,
    verdicts: Sequence[Verdict],
    confusion: NDArray[np.int64],
) -> set[int]:
    """Count an image's detections into the matrix; the objects that were taken for another class.

    An object counts once: found by its class, else by the best one that took it for another.
    """
    right = {each.object for each in verdicts if each.kind is Kind.RIGHT}
    claimed: set[int] = set()
    for each in verdicts:
        detected = int(evaluation.found.category[each.found])
        is_swap = each.kind is Kind.CONFUSED and each.object not in right | claimed
        if each.kind is Kind.IGNORED:
            continue
        if each.kind is Kind.RIGHT or (is_swap and _counts(evaluation, each.object)):
            claimed.add(each.object)
            confusion[evaluation.test_set.objects.category[each.object], detected] += 1
        else:
            confusion[-1, detected] += 1
    return claimed


def _counts(evaluation: Evaluation, index: int) -> bool:
    """Whether an object is one to be found."""
    is_difficult = bool(evaluation.test_set.objects.is_difficult[index])
    return evaluation.counts_difficult or not is_difficult


def _best_found(evaluation: Evaluation, pairs: ImagePairs, place: int) -> int:
    category = evaluation.test_set.objects.category[pairs.objects[place]]
    is_hit = pairs.overlap[:, place] >= MIN_OVERLAP
    hits = np.flatnonzero(is_hit & (evaluation.found.category[pairs.found] == category))
    return int(pairs.found[hits[0]]) if len(hits) else -1
