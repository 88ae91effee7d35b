"""The course of the training: loss, learning rate, mAP and AP per class."""

from __future__ import annotations

import math
from itertools import pairwise

from caffe_ssd.report.charts import Line, Series, line_chart
from caffe_ssd.report.history import History, smoothed
from caffe_ssd.report.markup import Html
from caffe_ssd.report.page import Section, charts, note
from caffe_ssd.report.sections.known import Known, number

_MOST_CLASSES = 8
_MOST_POINTS = 600


def curves(known: Known) -> Section:
    """All curves; a sentence where nothing was written down."""
    history = known.history
    if history is None or not (history.iterations or history.tests):
        words = "There is no results file beside the snapshots, so there are no curves."
        return Section("training", "Training", [note(words)] if known.files.solver else [])
    figures = []
    if history.iterations:
        figures.append(_loss(history))
        figures.append(_rate(history))
    if history.tests:
        figures.append(_scores(history))
    if history.is_detection:
        figures.append(_class_ap(known, history))
    return Section("training", "Training", [charts(figures, is_wide=True), *_words(history)])


def _loss(history: History) -> Html:
    window = max(1, len(history.losses) // 40)
    step = max(1, len(history.losses) // _MOST_POINTS)
    x = history.iterations[::step]
    positive = all(v > 0 for v in history.losses if math.isfinite(v))
    series = [Series(name="displayed", x=x, y=history.losses[::step], colour=0, is_faint=True)]
    smooth = smoothed(history.losses, window)[::step]
    series.insert(0, Series(name="smoothed", x=x, y=smooth, colour=0))
    return line_chart(
        series,
        title="Training loss",
        x_label="iteration",
        y_label="loss",
        log_y=positive,
        x_range=_span(history),
        lines=_drops(history),
        note=f"Faint: as displayed; bold: the mean of {window} such values." if window > 1 else "",
    )


def _span(history: History) -> tuple[float, float]:
    """The iterations that all charts show."""
    return (0.0, max(history.last_iteration, 1) * 1.01)


def _drops(history: History) -> list[Line]:
    """Where the rate falls by half or more at once."""
    pairs = zip(history.iterations[1:], pairwise(history.rates), strict=False)
    return [Line(x=at) for at, (before, after) in pairs if after <= before / 2]


def _rate(history: History) -> Html:
    step = max(1, len(history.rates) // _MOST_POINTS)
    known = [rate for rate in history.rates if rate > 0]
    return line_chart(
        [Series(name="rate", x=history.iterations[::step], y=history.rates[::step], is_step=True)],
        title="Learning rate",
        x_label="iteration",
        y_label="rate",
        log_y=bool(known) and max(known) / min(known) > 5,
        x_range=_span(history),
    )


def _scores(history: History) -> Html:
    name = "mAP" if history.is_detection else history.tests[0].name
    series = Series(
        name=name,
        x=[test.iteration for test in history.tests],
        y=[test.score for test in history.tests],
        has_points=True,
    )
    return line_chart(
        [series],
        title=f"{name} on the test pictures",
        x_label="iteration",
        y_label=name,
        x_range=_span(history),
        y_range=(0.0, 1.0) if history.is_detection else None,
        lines=_drops(history),
    )


def _class_ap(known: Known, history: History) -> Html:
    last = next(test for test in reversed(history.tests) if test.class_ap).class_ap
    ranked = sorted(last, key=lambda label: last[label] if last[label] == last[label] else -1)
    shown = sorted(ranked[:_MOST_CLASSES])
    x = [test.iteration for test in history.tests]
    series = [
        Series(
            name=known.name_of(label),
            x=x,
            y=[test.class_ap.get(label, math.nan) for test in history.tests],
            has_points=len(x) <= 40,
        )
        for label in shown
    ]
    text = f"The {len(shown)} weakest of {len(last)} classes." if len(shown) < len(last) else ""
    return line_chart(
        series,
        title="AP per class on the test pictures",
        x_label="iteration",
        y_label="AP",
        x_range=_span(history),
        y_range=(0.0, 1.0),
        note=text,
    )


def _words(history: History) -> list[Html]:
    best = history.best
    if best is None:
        return []
    last = history.tests[-1]
    name = "mAP" if history.is_detection else best.name
    text = f"Best test: {name} {number(best.score, 4)} after {best.iteration:,} iterations"
    if last.iteration != best.iteration:
        text += f"; the last: {number(last.score, 4)} after {last.iteration:,}"
    return [note(text + ".")]
