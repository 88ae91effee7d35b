"""What is taken for what, and which kinds of mistakes there are."""

from __future__ import annotations

import numpy as np

from caffe_ssd.report.charts import Bar, bar_chart
from caffe_ssd.report.evaluation import Evaluation
from caffe_ssd.report.heat_map import heat_map
from caffe_ssd.report.markup import Html
from caffe_ssd.report.page import Section, charts, heading, note, table
from caffe_ssd.report.sections.known import MANY_CLASSES, Known
from caffe_ssd.report.verdicts import Kind, Verdicts

_MOST_PAIRS = 12


def mistakes(known: Known) -> Section:
    """The confusion matrix, the kinds of mistakes, and the most frequent confusions."""
    evaluation, verdicts = known.evaluation, known.verdicts
    if evaluation is None or verdicts is None:
        return Section("confusion", "Mistakes", [])
    words = (
        "All of this counts detections from the best threshold of their class on, and objects that "
        "they overlap by at least half. An object counts once: found by its own class, else by the "
        "most certain box of another class, else missed."
    )
    content: list[object] = [
        note(words),
        charts([_matrix(evaluation, verdicts), _kinds(verdicts)], is_wide=True),
    ]
    pairs = _confusions(evaluation, verdicts)
    if len(pairs) > 1 and len(evaluation.names) > 2:
        content.append(heading("Most frequent confusions"))
        content.append(table(("is", "taken for", "times", "of its class"), pairs, numbers=2))
    return Section("confusion", "Mistakes", content)


def _matrix(evaluation: Evaluation, verdicts: Verdicts) -> Html:
    text = "Rows add up to the objects of a class; the last row is what was found in vain."
    if len(evaluation.names) > MANY_CLASSES:
        text += " Hover over a square for its names."
    return heat_map(
        verdicts.confusion.tolist(),
        rows=[*evaluation.names, "background"],
        columns=[*evaluation.names, "missed"],
        title="Confusion matrix",
        row_label="is",
        column_label="taken for",
        note=text,
    )


def _kinds(verdicts: Verdicts) -> Html:
    counts = verdicts.counts()
    bars = [
        Bar(name="right", value=counts[Kind.RIGHT], colour=2),
        Bar(name="missed", value=len(verdicts.missed), colour=5),
        *(
            Bar(name=kind.value, value=counts[kind], colour=1)
            for kind in (Kind.NOTHING, Kind.MISPLACED, Kind.CONFUSED, Kind.DOUBLED)
        ),
    ]
    text = (
        "Nothing there: no object of this class overlaps it by a tenth; if the pictures show that "
        "there is one, an annotation is missing. Badly placed: one does, but by less than half."
    )
    return bar_chart(bars, title="Detections and objects", note=text)


def _confusions(evaluation: Evaluation, verdicts: Verdicts) -> list[tuple[str, str, str, str]]:
    counts = verdicts.confusion[:-1, :-1].copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST_PAIRS]
    found = []
    for place in order.tolist():
        row, column = divmod(place, len(counts))
        count = int(counts[row, column])
        if count:
            share = count / verdicts.confusion[row].sum()
            names = evaluation.names[row], evaluation.names[column]
            found.append((*names, str(count), f"{share:.1%}"))
    return found
