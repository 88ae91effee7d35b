"""The first thing to see: how good the detector is, in numbers and in three sentences."""

from __future__ import annotations

import math

from caffe_ssd.errors import plural
from caffe_ssd.evaluate.mean_ap import MeanAP
from caffe_ssd.net.cost import FLOPS_PER_MAC
from caffe_ssd.report.evaluation import Evaluation
from caffe_ssd.report.markup import Html, element
from caffe_ssd.report.page import Section, cards, note, warning
from caffe_ssd.report.sections.known import Known, duration, number, percent
from caffe_ssd.report.verdicts import Kind


def headline(known: Known) -> Section:
    """Numbers to remember, and what they say."""
    values: list[tuple[str, str]] = []
    content: list[object] = []
    if known.evaluation is not None:
        values += _scores(known, known.evaluation)
    if known.history is not None and known.history.last_iteration:
        values += _training(known)
    content.append(cards(values))
    if known.evaluation is not None:
        content.append(element("ul", *_sentences(known, known.evaluation), class_="say"))
        content.append(note(_versions(known.evaluation.mean_aps, known.version)))
    else:
        content.append(warning(f"Nothing was scored for this report: {known.why_not}."))
    return Section("glance", "At a glance", content)


def _scores(known: Known, evaluation: Evaluation) -> list[tuple[str, str]]:
    _, _, height, width = evaluation.input_shape
    cost = evaluation.cost
    gflop = FLOPS_PER_MAC * sum(layer.num_macs for layer in cost.layers) / 1e9
    best = evaluation.best_of_all
    num_objects = sum(each.num_pos for each in evaluation.judged)
    return [
        (number(evaluation.mean_aps[known.version].value), f"mAP ({known.version})"),
        (percent(best.recall), f"of the objects found at threshold {best.threshold:.2f}"),
        (percent(best.precision), "of what is found there is right"),
        (
            f"{len(evaluation.test_set.images):,}",
            f"test pictures with {plural(num_objects, 'object')} of "
            f"{plural(len(evaluation.names), 'class')}",
        ),
        (
            f"{cost.num_parameters / 1e6:.2f} M",
            f"parameters, {gflop / evaluation.input_shape[0]:.2g} GFLOP for a picture of "
            f"{width} × {height}",
        ),
    ]


def _training(known: Known) -> list[tuple[str, str]]:
    history = known.history
    assert history is not None
    iterations = f"{max(history.last_iteration, known.files.last_snapshot):,}"
    if history.seconds > 0:
        return [(duration(history.seconds), f"of training, {iterations} iterations")]
    return [(iterations, "iterations of training")]


def _sentences(known: Known, evaluation: Evaluation) -> list[Html]:
    values = evaluation.class_ap(known.version)
    defined = [(v, name) for v, name in zip(values, evaluation.names, strict=True) if v == v]
    said = []
    if len(defined) > 1:
        (most, best), (least, worst) = max(defined), min(defined)
        said.append(f"Best at {best} (AP {most:.3f}), weakest at {worst} (AP {least:.3f}).")
    verdicts = known.verdicts
    if verdicts is not None:
        said.append(_main_error(verdicts.counts(), len(verdicts.missed)))
    without = [n for n, j in zip(evaluation.names, evaluation.judged, strict=True) if not j.num_pos]
    if without:
        some = ", ".join(without[:8]) + (", …" if len(without) > 8 else "")
        said.append(
            f"The test set has no example of {some}: the reference counts such a class as 0 in "
            "the mean."
        )
    if not len(evaluation.found):
        said.append("The net found nothing at all.")
    return [element("li", each) for each in said if each]


def _main_error(counts: dict[Kind, int], num_missed: int) -> str:
    kinds = {kind: counts.get(kind, 0) for kind in Kind if kind not in (Kind.RIGHT, Kind.IGNORED)}
    texts = {
        Kind.NOTHING: "finds something where nothing is annotated",
        Kind.MISPLACED: "finds an object but places its box badly",
        Kind.CONFUSED: "takes an object for another class",
        Kind.DOUBLED: "finds an object twice",
    }
    kind = max(kinds, key=lambda each: kinds[each])
    if num_missed == 0 and not kinds[kind]:
        return "With each class's best threshold it makes no mistake on these pictures."
    if num_missed >= kinds[kind]:
        return f"Its most frequent mistake is to miss an object ({num_missed} times)."
    return (
        f"Its most frequent mistake: it {texts[kind]} ({kinds[kind]} times); "
        f"it misses {plural(num_missed, 'object')}."
    )


def _versions(mean_aps: dict[str, MeanAP], version: str) -> str:
    others = [f"{each.value:.4f} ({k})" for k, each in mean_aps.items() if k != version]
    own = mean_aps[version].value
    text = f"mAP {own:.4f} ({version}), {' and '.join(others)}: as caffe test prints it."
    return text if math.isfinite(own) else ""
