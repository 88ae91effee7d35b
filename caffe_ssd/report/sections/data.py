"""What the net learned from and what it was scored on."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping

import numpy as np

from caffe_ssd.datasets.summary import Summary
from caffe_ssd.errors import plural
from caffe_ssd.report.charts import Bar, bar_chart, histogram
from caffe_ssd.report.markup import Html
from caffe_ssd.report.page import Section, charts, folded, table, warning
from caffe_ssd.report.sections.known import MANY_CLASSES, Known

_BINS = 20
_FEW = 10


def data(known: Known) -> Section:
    """Counts of pictures and objects, per class and by size."""
    summaries = {part: each for part, each in known.data.items() if each.num_records}
    if not summaries:
        return Section("data", "Data", [])
    content: list[object] = [_table(summaries)]
    content += [warning(words) for words in _warnings(known, summaries)]
    content.append(charts([*_class_charts(known, summaries), _sizes(summaries)], is_wide=True))
    per_class = _class_table(known, summaries)
    content.append(folded("Objects and pictures of each class", per_class))
    return Section("data", "Data", content)


def _table(summaries: Mapping[str, Summary]) -> Html:
    rows = []
    for part, each in summaries.items():
        boxes, pictures = sum(each.boxes_of.values()), each.num_records
        difficult = sum(each.difficult_of.values())
        row = (
            part,
            f"{pictures:,}",
            f"{boxes:,}",
            f"{boxes / pictures:.1f}",
            f"{each.boxes_per_image.get(0, 0):,}",
            f"{difficult:,}",
            _picture_size(each.shapes),
        )
        rows.append(row)
    head = ("", "pictures", "objects", "a picture", "without any", "difficult", "width × height")
    return table(head, rows, numbers=len(head) - 1)


def _picture_size(shapes: Counter[tuple[int, int, int]]) -> str:
    """The size of all pictures, or the median of both sides."""
    if not shapes:
        return "–"
    if len({shape[:2] for shape in shapes}) == 1:
        height, width, _ = next(iter(shapes))
        return f"{width} × {height}"
    heights, widths = (
        statistics.median(n for shape in shapes.elements() for n in (shape[axis],))
        for axis in (0, 1)
    )
    return f"about {widths:.0f} × {heights:.0f}"


def _warnings(known: Known, summaries: Mapping[str, Summary]) -> list[str]:
    words = []
    for part, each in summaries.items():
        if each.broken:
            key, fault = each.broken[0]
            words.append(
                f"{plural(len(each.broken), 'record')} of the {part} data cannot be used, "
                f"such as {key}: it {fault}."
            )
        if each.num_empty:
            words.append(
                f"{plural(each.num_empty, 'box')} of the {part} data {_are(each.num_empty)} "
                "empty: nothing can be learnt from or found in them."
            )
    train = summaries.get("training")
    if train is not None:
        labels = [*train.boxes_of, *(k for each in summaries.values() for k in each.boxes_of)]
        few = [k for k in dict.fromkeys(labels) if train.boxes_of[k] < _FEW]
        if few:
            some = ", ".join(f"{known.name_of(k)} ({train.boxes_of[k]})" for k in few[:8])
            words.append(f"Very few objects to learn from: {some}{', …' if len(few) > 8 else ''}.")
    return words


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _class_charts(known: Known, summaries: Mapping[str, Summary]) -> list[Html]:
    part, each = next(iter(summaries.items()))
    ranked = each.boxes_of.most_common()
    half = MANY_CLASSES // 2
    text = ""
    if len(ranked) > MANY_CLASSES:
        ranked = ranked[:half] + ranked[-half:]
        text = f"The {half} most and the {half} least frequent of {len(each.boxes_of)} classes."
    bars = [Bar(name=known.name_of(k), value=n, text=f"{n:,}") for k, n in ranked]
    return [bar_chart(bars, title=f"Objects per class, {part}", note=text)] if bars else []


def _sizes(summaries: Mapping[str, Summary]) -> Html:
    largest = max((max(each.scales, default=0.0) for each in summaries.values()), default=0.0)
    edges = np.linspace(0, min(max(np.ceil(largest * 10) / 10, 0.1), 1), _BINS + 1)
    groups = []
    for part, each in summaries.items():
        counts = np.histogram(each.scales, edges)[0]
        groups.append((part, (counts / max(len(each.scales), 1)).tolist()))
    return histogram(
        edges.tolist(),
        groups,
        title="Sizes of the objects",
        x_label="square root of the share of the picture's area",
        y_label="share of the objects",
    )


def _class_table(known: Known, summaries: Mapping[str, Summary]) -> Html:
    parts = list(summaries)
    head = ["class", *(f"{part} {what}" for part in parts for what in ("objects", "pictures"))]
    labels = sorted({k for each in summaries.values() for k in (*each.boxes_of, *each.images_of)})
    rows = [
        [
            known.name_of(label),
            *(
                f"{counted[label]:,}"
                for part in parts
                for counted in (summaries[part].boxes_of, summaries[part].images_of)
            ),
        ]
        for label in labels
    ]
    return table(head, rows, numbers=len(head) - 1)
