"""Galleries: whole pictures, and what was right, missed, doubled and false in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from caffe_ssd.data.drawing import DrawnBox, class_colour
from caffe_ssd.errors import DataError
from caffe_ssd.report.evaluation import Evaluation
from caffe_ssd.report.markup import Html, element, join
from caffe_ssd.report.page import Section, colour_key, gallery, heading, note
from caffe_ssd.report.sections.known import MANY_CLASSES, Known
from caffe_ssd.report.thumbnails import Thumbnails
from caffe_ssd.report.verdicts import Kind, Missed, Verdict, Verdicts

_NUM_WHOLE = 8
_NUM_EACH = 12
_MOST_TAGS = 6  # more of them cover a picture
_MOST_BYTES = 2_000_000  # of JPEG files; a page holds 4 bytes for 3

Shown = tuple[bytes, str, Html]


@dataclass
class _Maker:
    """Makes the pictures of galleries until there is no room for more."""

    evaluation: Evaluation
    thumbnails: Thumbnails
    verdicts: Verdicts
    room: int = _MOST_BYTES

    def take(self, made: Iterator[Shown], most: int) -> list[Shown]:
        """Up to `most` pictures, as far as there is room."""
        shown: list[Shown] = []
        while len(shown) < most and self.room > 0:
            try:
                each = next(made, None)
            except DataError:  # one that cannot be decoded; the net would have failed at it
                break
            if each is None:
                break
            shown.append(each)
            self.room -= len(each[0])
        return shown


def pictures(known: Known) -> list[Section]:
    """Whole pictures in one section, right ones and mistakes in another."""
    evaluation, verdicts = known.evaluation, known.verdicts
    if evaluation is None or verdicts is None:
        return []
    thumbnails = Thumbnails(evaluation.source, evaluation.test_set.images)
    maker = _Maker(evaluation, thumbnails, verdicts)
    words = (
        "Taken at equal distances from the test set. Solid: what the net found, above the best "
        "threshold of its class. Dashed: what it missed."
    )
    whole = [
        note(words),
        _key(evaluation),
        gallery(maker.take(_wholes(maker), _NUM_WHOLE), is_large=True),
    ]
    counts = verdicts.counts()
    false = sum(counts[k] for k in (Kind.NOTHING, Kind.MISPLACED, Kind.CONFUSED))
    parts = [
        (
            f"False ({false})",
            "Found above the threshold where it should not be; the most certain first.",
            _found(maker, _false(maker)),
        ),
        (
            f"Missed ({len(verdicts.missed)})",
            "Objects that nothing above the threshold found; the largest first.",
            _missed(maker),
        ),
        (
            f"Found twice ({counts[Kind.DOUBLED]})",
            "A second box on an object that is found already; the most certain first.",
            _found(maker, _by_score(evaluation, verdicts.of(Kind.DOUBLED))),
        ),
        (
            f"Right ({counts[Kind.RIGHT]})",
            "Class by class in turn, the most certain first.",
            _found(maker, _in_turn(evaluation, verdicts.of(Kind.RIGHT))),
        ),
    ]
    mistakes: list[object] = []
    for title, text, made in parts:
        if shown := maker.take(made, _NUM_EACH):
            mistakes += [heading(title), note(text), gallery(shown)]
    if mistakes:
        mistakes[:0] = [note("Solid: what was found. Dashed: the annotation."), _key(evaluation)]
    return [
        Section("pictures", "Pictures", whole),
        Section("mistakes", "Right and wrong", mistakes),
    ]


def _key(evaluation: Evaluation) -> Html:
    """Which class has which colour; none for very many."""
    if len(evaluation.names) > 2 * MANY_CLASSES:
        return Html()
    colours = [class_colour(label) for label in evaluation.labels]
    return colour_key(list(zip(colours, evaluation.names, strict=True)))


def _wholes(maker: _Maker) -> Iterator[Shown]:
    evaluation = maker.evaluation
    num = len(evaluation.test_set.images)
    for image in np.unique(np.linspace(0, num - 1, min(num, _NUM_WHOLE)).round().astype(int)):
        found = [v for v in maker.verdicts.found if evaluation.found.image[v.found] == image]
        missed = [
            m for m in maker.verdicts.missed if evaluation.test_set.objects.image[m.object] == image
        ]
        boxes = [_truth_box(maker, each.object) for each in missed]
        has_text = len(found) <= _MOST_TAGS
        boxes += [_found_box(maker, each.found, has_text=has_text) for each in reversed(found)]
        right = sum(each.kind is Kind.RIGHT for each in found)
        wrong = sum(each.kind not in (Kind.RIGHT, Kind.IGNORED) for each in found)
        name = evaluation.image_names[image]
        caption = join([element("b", name), f" {right} right, {wrong} wrong, {len(missed)} missed"])
        yield maker.thumbnails.whole(int(image), boxes), f"picture {name}", caption


def _found(maker: _Maker, verdicts: Sequence[Verdict]) -> Iterator[Shown]:
    evaluation = maker.evaluation
    for each in verdicts:
        image = int(evaluation.found.image[each.found])
        boxes = [] if each.object < 0 else [_truth_box(maker, each.object)]
        boxes.append(_found_box(maker, each.found))
        name = evaluation.names[evaluation.found.category[each.found]]
        words = _words(evaluation, each)
        score = f"{evaluation.found.scores[each.found]:.2f}"
        where = evaluation.image_names[image]
        caption = join([element("b", f"{name} {score}"), f" {words} ({where})"])
        box = evaluation.found.boxes_px[each.found]
        yield maker.thumbnails.crop(image, box, boxes), f"{name} {score} {words}", caption


def _missed(maker: _Maker) -> Iterator[Shown]:
    evaluation = maker.evaluation
    objects = evaluation.test_set.objects
    largest = sorted(maker.verdicts.missed, key=lambda each: -objects.areas_px[each.object])
    for each in largest:
        image = int(objects.image[each.object])
        name = evaluation.names[objects.category[each.object]]
        words = _why_missed(evaluation, each)
        boxes = [] if each.best_found < 0 else [_found_box(maker, each.best_found)]
        boxes.append(_truth_box(maker, each.object))
        where = evaluation.image_names[image]
        caption = join([element("b", name), f" {words} ({where})"])
        crop = maker.thumbnails.crop(image, objects.boxes_px[each.object], boxes)
        yield crop, f"{name} {words}", caption


def _why_missed(evaluation: Evaluation, missed: Missed) -> str:
    if missed.best_found < 0:
        return "not seen at all"
    score = evaluation.found.scores[missed.best_found]
    category = int(evaluation.found.category[missed.best_found])
    if score >= evaluation.best_points[category].threshold:
        return f"its box ({score:.2f}) went to a neighbour"
    return f"seen, but at {score:.2f} only"


def _words(evaluation: Evaluation, verdict: Verdict) -> str:
    """What is to be said of a detection."""
    share = f"overlap {verdict.overlap:.2f}"
    if verdict.kind is Kind.CONFUSED:
        true = evaluation.names[evaluation.test_set.objects.category[verdict.object]]
        return f"is a {true}, {share}"
    if verdict.kind in (Kind.MISPLACED, Kind.RIGHT, Kind.DOUBLED):
        return f"{verdict.kind.value}, {share}"
    return str(verdict.kind.value)


def _false(maker: _Maker) -> list[Verdict]:
    kinds = (Kind.NOTHING, Kind.MISPLACED, Kind.CONFUSED)
    return _by_score(maker.evaluation, [v for v in maker.verdicts.found if v.kind in kinds])


def _by_score(evaluation: Evaluation, verdicts: Sequence[Verdict]) -> list[Verdict]:
    return sorted(verdicts, key=lambda each: -evaluation.found.scores[each.found])


def _in_turn(evaluation: Evaluation, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The best of each class, then the second of each, and so on."""
    rank: dict[int, int] = {}
    keyed = []
    for each in _by_score(evaluation, verdicts):
        category = int(evaluation.found.category[each.found])
        rank[category] = rank.get(category, -1) + 1
        keyed.append((rank[category], category, each))
    return [each for _, _, each in sorted(keyed, key=lambda key: key[:2])]


def _found_box(maker: _Maker, index: int, *, has_text: bool = False) -> DrawnBox:
    found = maker.evaluation.found
    category = int(found.category[index])
    text = f"{maker.evaluation.names[category]} {found.scores[index]:.2f}" if has_text else ""
    corners = maker.thumbnails.corners(int(found.image[index]), found.boxes_px[index])
    return DrawnBox(label=maker.evaluation.labels[category], text=text, corners=corners)


def _truth_box(maker: _Maker, index: int) -> DrawnBox:
    objects = maker.evaluation.test_set.objects
    label = maker.evaluation.labels[int(objects.category[index])]
    corners = maker.thumbnails.corners(int(objects.image[index]), objects.boxes_px[index])
    return DrawnBox(label=label, text="", corners=corners, dashed=True)
