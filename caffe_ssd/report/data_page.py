"""The page of `caffe data check`: a data set's numbers, findings with pictures, examples."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import cv2
import numpy as np

from caffe_ssd.datasets.box_checks import box_faults
from caffe_ssd.datasets.dataset import (
    ERROR,
    SEVERITIES,
    TEST,
    TRAIN,
    AnnotatedPicture,
    Dataset,
    Finding,
)
from caffe_ssd.datasets.doctor import ASSUMED_INPUT
from caffe_ssd.datasets.loading import drawn, loader_of
from caffe_ssd.datasets.net_priors import NetPriors
from caffe_ssd.datasets.prior_checks import Reach, box_sizes, reach, size_class, size_names
from caffe_ssd.errors import CaffeError
from caffe_ssd.report.charts import Bar, bar_chart
from caffe_ssd.report.markup import Html
from caffe_ssd.report.page import (
    Section,
    cards,
    charts,
    folded,
    gallery,
    heading,
    note,
    page,
    table,
    text,
    warning,
)

_SIDE_PX = 420
_QUALITY = 82
_PER_FINDING = 4
_EXAMPLES = 12
_MOST_NAMED = 200
_QUOTED = re.compile(r"'([^']+)'")


def data_page(
    dataset: Dataset, findings: Sequence[Finding], priors: NetPriors | None = None
) -> str:
    """The page as the text of an HTML file that holds all it shows.

    Args:
        dataset: what was read.
        findings: what `check` said.
        priors: those that it was asked about.
    """
    return _Page(dataset, findings, priors).made()


class _Page:
    def __init__(
        self, dataset: Dataset, findings: Sequence[Finding], priors: NetPriors | None
    ) -> None:
        self.dataset = dataset
        self.findings = findings
        self.priors = priors
        self.input_size = ASSUMED_INPUT if priors is None else priors.input_size
        self.reach = None if priors is None else reach(dataset, priors)
        self.load = loader_of(dataset)
        self.by_name = {picture.name: index for index, picture in enumerate(dataset.pictures)}

    def made(self) -> str:
        sections = [
            Section("findings", "Findings", list(self._findings())),
            Section("classes", "Classes", [self._class_table(), self._class_chart()]),
            Section("sizes", "Sizes of objects", self._sizes()),
            Section("examples", "Examples", self._examples()),
        ]
        lead = f"What is in {self.dataset.root}. {self.dataset.reason}."
        title = f"Data set {os.path.basename(os.path.abspath(self.dataset.root))}"
        return page(title, lead, [Section("summary", "Summary", [self._cards()]), *sections])

    def _cards(self) -> Html:
        dataset = self.dataset
        counts = Counter(finding.severity for finding in self.findings)
        values = [(f"{len(dataset.pictures):,}", "pictures")]
        if dataset.is_split:
            parts = f"{len(dataset.part(TRAIN)):,} + {len(dataset.part(TEST)):,}"
            values.append((parts, "to train + to test"))
        values += [
            (f"{sum(dataset.boxes_of_class().values()):,}", "objects"),
            (str(len(dataset.classes)), "classes"),
            *((str(counts[each]), f"{each}s") for each in SEVERITIES if counts[each]),
        ]
        return cards(values)

    def _findings(self) -> Iterator[Html]:
        if not self.findings:
            yield text("Nothing was found that should worry anybody.")
        for finding in self.findings:
            yield heading(f"{finding.severity}: {finding.kind}")
            said = f"{finding.text[0].upper()}{finding.text[1:]}."
            yield (warning if finding.severity == ERROR else text)(said)
            if pictures := list(self._pictures(finding)):
                yield gallery(pictures)
            yield from _places(finding.where)

    def _pictures(self, finding: Finding) -> Iterator[tuple[bytes, str, object]]:
        """Examples of a finding, with the boxes that are meant pointed out."""
        shown = 0
        for place in finding.where:
            for name in place.split(" = "):
                index = self.by_name.get(name)
                if index is None or shown >= _PER_FINDING:
                    continue
                picture = self.dataset.pictures[index]
                marked = self._concerned(finding, index)
                drawing = self._drawing(picture, marked)
                if drawing is not None:
                    shown += 1
                    yield drawing, f"{finding.kind}: {name}", name

    def _concerned(self, finding: Finding, index: int) -> Collection[int] | None:
        """The boxes that a finding means; None for a finding about the whole picture."""
        picture = self.dataset.pictures[index]
        faults = box_faults(picture, self.input_size)
        if finding.kind in faults:
            return faults[finding.kind]
        if finding.kind == "priors" and self.reach is not None and self.priors is not None:
            mine = self.reach.overlaps[self.reach.pictures == index]
            return np.flatnonzero(mine < self.priors.rule.overlap_threshold).tolist()
        if finding.kind in ("misspelt", "few", "not-in-train", "not-in-test", "classes-swapped"):
            names = _QUOTED.findall(finding.text)
            names = names if finding.kind == "classes-swapped" else names[:1]
            return [i for i, box in enumerate(picture.boxes) if box.category in names]
        return None

    def _drawing(
        self, picture: AnnotatedPicture, marked: Collection[int] | None = None
    ) -> bytes | None:
        try:
            image = drawn(self.dataset, picture, self.load(picture), _SIDE_PX, marked)
        except (CaffeError, KeyError):  # it was there when the folder was read
            return None
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return bytes(data)

    def _class_table(self) -> Html:
        dataset = self.dataset
        parts = (TRAIN, TEST) if dataset.is_split else ("",)
        counts = {
            part: Counter(box.category for p in dataset.part(part) for box in p.boxes)
            for part in parts
        }
        pictures = Counter(
            name for p in dataset.pictures for name in {box.category for box in p.boxes}
        )
        difficult = Counter(
            box.category for p in dataset.pictures for box in p.boxes if box.is_difficult
        )
        rows = [
            (
                name,
                f"{pictures[name]:,}",
                *(f"{counts[part][name]:,}" for part in parts),
                f"{difficult[name]:,}",
            )
            for name in dataset.classes
        ]
        heads = [f"objects to {part}" if part else "objects" for part in parts]
        return table(["class", "pictures", *heads, "difficult"], rows, numbers=len(heads) + 2)

    def _class_chart(self) -> Html:
        counts = self.dataset.boxes_of_class()
        bars = [Bar(name=name, value=counts[name]) for name in self.dataset.classes]
        return charts([bar_chart(bars, title="Objects of each class")])

    def _sizes(self) -> list[Html]:
        _, sizes = box_sizes(self.dataset)
        if not len(sizes):
            return []
        groups = size_class(sizes)
        bars = [
            Bar(name=name, value=float((groups == i).sum())) for i, name in enumerate(size_names())
        ]
        what = "Size is the root of a box's share of its picture's area"
        shown = [charts([bar_chart(bars, title="Objects of each size", note=f"{what}.")])]
        if self.reach is not None and self.priors is not None:
            shown += self._reached(self.reach, self.priors)
        return shown

    def _reached(self, found: Reach, priors: NetPriors) -> list[Html]:
        """A table: which share of the objects of each class and size a prior reaches."""
        least = priors.rule.overlap_threshold
        hit = found.overlaps >= least
        groups, kinds = size_class(found.sizes), np.array(found.classes)
        rows = []
        for name in self.dataset.classes:
            row = [name]
            for i in range(len(size_names())):
                mine = (kinds == name) & (groups == i)
                row.append(f"{hit[mine].mean():.0%} of {mine.sum()}" if mine.any() else "")
            rows.append(row)
        lead = (
            f"How many objects of each class and size overlap at least one of the "
            f"{len(priors.boxes):,} priors by {least:g} or more, on pictures that are not "
            "augmented. Objects that none reaches are learnt by one prior only."
        )
        head = ["class", *size_names()]
        return [
            heading("What the priors reach"),
            text(lead),
            table(head, rows, numbers=len(head) - 1),
        ]

    def _examples(self) -> list[Html]:
        pictures = self.dataset.pictures
        places = np.linspace(0, len(pictures) - 1, min(_EXAMPLES, len(pictures)))
        chosen = [pictures[i] for i in places.round().astype(int).tolist()]
        shown = [
            (drawing, f"example: {picture.name}", picture.name)
            for picture in chosen
            if (drawing := self._drawing(picture)) is not None
        ]
        return [gallery(shown)] if shown else []


def _places(where: Sequence[str]) -> Iterator[Html]:
    """The names of files; many of them are shown when somebody asks."""
    names = note("; ".join(where[:_MOST_NAMED]))
    more = [note(f"... and {len(where) - _MOST_NAMED} more")] if len(where) > _MOST_NAMED else []
    if len(where) > 1:
        yield folded(f"{len(where)} files", names, *more)
    elif where:
        yield names
