"""Writes the report of a training: `write_report`.

files -> one pass over the test set -> what became of every detection -> sections -> page
run_files    evaluation                verdicts, sizes                  sections/   page
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caffe_ssd.data.decode import ColorMode, decode_datum
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.data.samples import parse_detection
from caffe_ssd.datasets.summary import Summary, summarise
from caffe_ssd.devices import device_named
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import plural
from caffe_ssd.files import atomic_write, read_bytes
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.proto.text import read_net
from caffe_ssd.report.evaluation import Evaluation, evaluate
from caffe_ssd.report.history import read_history
from caffe_ssd.report.page import Section, page
from caffe_ssd.report.run_files import PathLike, RunFiles, find_run, with_absolute_paths
from caffe_ssd.report.sections.classes import classes, scores
from caffe_ssd.report.sections.curves import curves
from caffe_ssd.report.sections.data import data
from caffe_ssd.report.sections.headline import headline
from caffe_ssd.report.sections.known import Known
from caffe_ssd.report.sections.mistakes import mistakes
from caffe_ssd.report.sections.pictures import pictures
from caffe_ssd.report.sections.settings import settings
from caffe_ssd.report.sections.use import speed, use
from caffe_ssd.report.speed import Speed, measure
from caffe_ssd.scoring.sources import Picture

logger = logging.getLogger(__name__)

MOST_RECORDS = 20_000
"""Databases with more records are not counted: reading them takes minutes."""

_NUM_TIMED = 4


def write_report(
    run: PathLike | None = None,
    *,
    model: PathLike | None = None,
    weights: PathLike | Sequence[PathLike] = (),
    output: PathLike | None = None,
    device: str | torch.device = "cpu",
    workers: int | None = 0,
    has_speed: bool = True,
    lenient: bool = False,
) -> Path:
    """Write what a trained detector can do as one HTML file.

    Args:
        run: a folder with one solver.prototxt in or below it, or that file; None where both of the
            next are given.
        model: the test net; None for the solver's.
        weights: of that net; none for the run's detector, best or newest weights.
        output: the file; None for report.html in the run's folder.
        device: where the net is scored and timed.
        workers: data worker processes; None for as many as the device deserves.
        has_speed: measure the engines, which takes about 20 seconds.
        lenient: skip fields of the prototxt that cannot change a result, with a warning.

    Returns:
        The file.

    Raises:
        CaffeError: a file cannot be read, or they do not fit one another.
    """
    paths = (weights,) if isinstance(weights, str | Path) else tuple(weights)  # type: ignore[arg-type]
    files = find_run(run, model=model, weights=paths)
    place = device_named(device)
    known = _known(files, place, workers, lenient)
    if has_speed and known.evaluation is not None and files.deploy is not None:
        known = replace(known, speeds=tuple(_speeds(known, known.evaluation, place)))
    target = files.folder / "report.html" if output is None else Path(output)
    atomic_write(target, page(_title(known), _lead(known), _sections(known)))
    return target


def _known(files: RunFiles, device: torch.device, workers: int | None, lenient: bool) -> Known:
    """Everything but the speeds."""
    evaluation, why_not = None, ""
    if files.test_model is None:
        why_not = "the solver has no test net"
    elif not files.weights:
        why_not = "there are no weights yet"
    else:
        evaluation = evaluate(files, device=device, workers=workers, lenient=lenient)
    names: Mapping[int, str] = {}
    if files.label_map is not None:
        names = read_label_map(files.label_map).label_to_display_name
    return Known(
        files=files,
        evaluation=evaluation,
        why_not=why_not,
        history=None if files.results is None else read_history(files.results),
        data=_summaries(files),
        notes=_notes(files),
        class_names=names,
    )


def _summaries(files: RunFiles) -> dict[str, Summary]:
    """What the databases of the train and the test net hold."""
    found = {}
    for part, model, phase in (
        ("training", files.train_model, "TRAIN"),
        ("test", files.test_model, "TEST"),
    ):
        source = None if model is None or not model.is_file() else _database(files, model, phase)
        if source is None:
            continue
        num = len(LmdbSource(source))
        if num > MOST_RECORDS:
            logger.info("%s has %s: not counted for the report", source, plural(num, "record"))
        else:
            found[part] = summarise(source, decode=False)
    return found


def _database(files: RunFiles, model: Path, phase: str) -> Path | None:
    """The LMDB that a net reads in a phase, where it exists."""
    for layer in with_absolute_paths(read_net(model), files.base).layer:
        rules = [rule for rule in layer.include if rule.HasField("phase")]
        is_mine = not rules or any(rule.phase == ("TRAIN", "TEST").index(phase) for rule in rules)
        if layer.type == "AnnotatedData" and is_mine:
            source = Path(layer.data_param.source)
            return source if source.exists() else None
    return None


def _notes(files: RunFiles) -> Mapping[str, Any]:
    if files.notes is None:
        return {}
    notes = parse_json(read_bytes(files.notes), str(files.notes))
    return notes if isinstance(notes, dict) else {}


def _speeds(known: Known, evaluation: Evaluation, device: torch.device) -> list[Speed]:
    if evaluation.mean is None:  # a mean picture, which a Detector does not take
        return []
    num = len(evaluation.test_set.images)
    chosen = np.unique(np.linspace(0, num - 1, min(num, _NUM_TIMED)).round().astype(int))
    samples = [_picture(evaluation, int(index)) for index in chosen]
    return measure(
        known.files, samples, device=device, mean=evaluation.mean, scale=evaluation.scale
    )


def _picture(evaluation: Evaluation, index: int) -> Picture:
    datum = parse_detection(evaluation.source[index]).datum
    pixels = np.asarray(decode_datum(datum, ColorMode.COLOR), np.uint8)
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels


def _sections(known: Known) -> list[Section]:
    whole, wrong = ([*pictures(known), Section("", "", []), Section("", "", [])])[:2]
    return [
        headline(known),
        whole,
        classes(known),
        mistakes(known),
        wrong,
        scores(known),
        curves(known),
        data(known),
        speed(known),
        use(known),
        settings(known),
    ]


def _title(known: Known) -> str:
    return known.files.name


def _lead(known: Known) -> str:
    if known.evaluation is None:
        return "A training of caffe-ssd."
    _, _, height, width = known.evaluation.input_shape
    names = known.evaluation.names
    some = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    net = known.evaluation.net_name or "a detector"
    return f"{net}, an input of {width} × {height} pixels: finds {some}."
