"""How good the detector is class by class: AP, precision and recall, thresholds, scores."""

from __future__ import annotations

import math

import numpy as np

from caffe_ssd.boxes.average_precision import precision_recall
from caffe_ssd.evaluate.mean_ap import JudgedClass
from caffe_ssd.report.charts import Bar, Line, bar_chart, histogram, precision_recall_chart
from caffe_ssd.report.evaluation import BestPoint, Evaluation
from caffe_ssd.report.markup import Html
from caffe_ssd.report.page import Section, charts, folded, note, table
from caffe_ssd.report.sections.known import MANY_CLASSES, Known, number
from caffe_ssd.report.sizes import ap_by_size, area_rule

_MOST_POINTS = 400
_MOST_CURVES = 8
_BINS = 20


def classes(known: Known) -> Section:
    """AP, curves of precision over recall, and AP by size."""
    evaluation = known.evaluation
    if evaluation is None:
        return Section("classes", "Classes", [])
    values = evaluation.class_ap(known.version)
    ranked = sorted(range(len(values)), key=lambda i: -values[i] if values[i] == values[i] else 9)
    bars = [Bar(name=evaluation.names[i], value=values[i], text=number(values[i])) for i in ranked]
    ap_chart = bar_chart(bars, title=f"Average precision ({known.version})", most=1.0)
    figures = [ap_chart, _curves(evaluation, ranked), _sizes(known, evaluation)]
    whole = _table(known, evaluation, values, ranked)
    words = (
        "The threshold is the score from which on F1, the harmonic mean of precision and recall, "
        "is best; precision and recall are those at this threshold. It was chosen on the test "
        "pictures themselves, so that new pictures will do a little worse."
    )
    shown = whole if len(values) <= MANY_CLASSES else folded(f"All {len(values)} classes", whole)
    return Section("classes", "Classes", [charts(figures), shown, note(words)])


def scores(known: Known) -> Section:
    """Histograms of scores, right and false ones."""
    evaluation = known.evaluation
    if evaluation is None or not len(evaluation.found):
        return Section("scores", "Scores", [])
    figures = [
        _histogram(name, judged, best)
        for name, judged, best in zip(
            evaluation.names, evaluation.judged, evaluation.best_points, strict=True
        )
        if len(judged.scores)
    ]
    words = (
        "How sure the net is of what is right and of what is false; the vertical axis is "
        "logarithmic, since there are very many false detections with a score near 0. The further "
        "both lie apart, the less the threshold matters."
    )
    content: list[object] = [note(words), charts(figures[:MANY_CLASSES])]
    if len(figures) > MANY_CLASSES:
        rest = charts(figures[MANY_CLASSES:])
        content.append(folded(f"{len(figures) - MANY_CLASSES} more classes", rest))
    return Section("scores", "Scores", content)


def _table(known: Known, evaluation: Evaluation, values: list[float], ranked: list[int]) -> Html:
    head = ("class", "objects", "AP", "threshold", "precision", "recall", "F1")
    rows = []
    for i in ranked:
        best = evaluation.best_points[i]
        rows.append(
            (
                evaluation.names[i],
                f"{evaluation.judged[i].num_pos:,}",
                number(values[i], 4),
                number(best.threshold, 2) if best.f1 == best.f1 else "–",
                *(number(v) for v in (best.precision, best.recall, best.f1)),
            )
        )
    best = evaluation.best_of_all
    rows.append(
        (
            "all",
            f"{sum(each.num_pos for each in evaluation.judged):,}",
            number(evaluation.mean_aps[known.version].value, 4),
            *(number(v, 2) for v in (best.threshold,)),
            *(number(v) for v in (best.precision, best.recall, best.f1)),
        )
    )
    return table(head, rows, numbers=len(head) - 1)


def _curves(evaluation: Evaluation, ranked: list[int]) -> Html:
    known = [i for i in ranked if evaluation.judged[i].num_pos]
    note_text = ""
    if len(known) > _MOST_CURVES:
        half = _MOST_CURVES // 2
        known = known[:half] + known[-half:]
        note_text = f"The {half} best and the {half} weakest classes."
    curves = []
    for i in known:
        precision, recall = _curve(evaluation.judged[i])
        curves.append((evaluation.names[i], recall, precision))
    best = evaluation.best_of_all
    point = None
    if math.isfinite(best.f1):
        text = f"all classes at {best.threshold:.2f} (F1 {best.f1:.2f})"
        point = (best.recall, best.precision, text)
    return precision_recall_chart(curves, title="Precision and recall", best=point, note=note_text)


def _curve(judged: JudgedClass) -> tuple[list[float], list[float]]:
    """Precision and recall as far as a picture can show them; every object found is a point."""
    if not len(judged.scores):
        return [], []
    precision, recall = precision_recall(judged.scores, judged.is_tp, judged.num_pos)
    places = np.unique(np.linspace(0, len(recall) - 1, _MOST_POINTS).round().astype(int))
    turns = np.flatnonzero(np.diff(recall, prepend=0) > 0)
    if len(turns) > _MOST_POINTS:
        turns = turns[:: len(turns) // _MOST_POINTS + 1]
    places = np.union1d(places, turns)
    return precision[places].tolist(), recall[places].tolist()


def _sizes(known: Known, evaluation: Evaluation) -> Html:
    rule = area_rule(evaluation)
    bars = [
        Bar(
            name=f"{each.name} ({each.num_objects:,})",
            value=each.mean_ap,
            text=number(each.mean_ap),
            colour=2,
        )
        for each in ap_by_size(evaluation, rule, known.version)
    ]
    text = f"Mean AP over the classes that have such objects, whose number is given; {rule.text}."
    return bar_chart(bars, title="AP by the size of objects", most=1.0, note=text)


def _histogram(name: str, judged: JudgedClass, best: BestPoint) -> Html:
    edges = np.linspace(0, 1, _BINS + 1)
    right, false = (
        np.histogram(judged.scores[which], edges)[0].tolist()
        for which in (judged.is_tp, ~judged.is_tp)
    )
    has_best = math.isfinite(best.f1)
    lines = [Line(x=best.threshold, text=f"best {best.threshold:.2f}")] if has_best else []
    return histogram(
        edges.tolist(),
        [("right", right), ("false", false)],
        title=name,
        x_label="score",
        y_label="detections",
        log_y=True,
        lines=lines,
    )
