"""`caffe models`: the published models with their scores, sizes, operations and commands.

An addition to the reference's actions. Scores and commands are those of `caffe.catalogue`;
parameters, operations and priors are counted in the net that the command trains, by the counter
of `caffe summary`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from itertools import groupby

from caffe.catalogue import PAPERS, Map, Model, Models, Published, body_settings
from caffe.catalogue.assumptions import assumptions_of

from caffe_ssd.cli import models_check, models_run
from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.cli.models_select import heading, select
from caffe_ssd.desk.console import show
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.cost import FLOAT_BYTES

DESCRIPTION = """\
List the published models with their scores and the commands that train them, or show one.

Scores are the papers': mAP in percent, for COCO the mean over IoU 0.5 to 0.95. Parameters
(floats), MB of a caffemodel, GFLOP and priors are counted in the net that the command trains;
* marks published nets that are not known exactly. A multiply-accumulate is two FLOP.

`caffe models run NAME` writes the files of a row and starts it, `caffe models check NAME` says what
it lacks here and what it would take; each has its own --help."""
EXAMPLES = """\
  caffe models
  caffe models DSOD300
  caffe models ScratchDet -json
  caffe models check DSOD300-07+12
  caffe models run DSOD300-07+12 -print"""

VERBS = {"run": models_run.run, "check": models_check.run}
_HEADINGS = ("row", "trained on", "tested on", "mAP", "floats", "MB", "GFLOP", "priors", "note")
_WRITE_SCRIPTS = "caffe examples ."
_NUMBERS = range(3, 8)  # columns that are aligned to the right


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    if arguments and arguments[0] in VERBS:
        return VERBS[arguments[0]](arguments[1:])
    args = _parse(arguments)
    rows = select(args.name)
    models = Models()
    in_full = len({(row.family.name, row.variant) for row in rows}) == 1
    if args.json:
        show(json.dumps([_entry(row, models, in_full=in_full) for row in rows], indent=1))
    else:
        show(format_model(rows, models) if in_full else format_table(rows, models))
    return 0


def format_table(rows: Sequence[Published], models: Models) -> str:
    """Models as a table, paper by paper."""
    blocks = []
    for source, each in groupby(sorted(rows, key=_paper_order), key=lambda row: row.source):
        blocks.append((source, [_cells(row, models.of(row)) for row in each]))
    lines = [_HEADINGS, *(line for _, table in blocks for line in table)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADINGS))]
    text = []
    for source, table in blocks:
        text += ["", source, _aligned(_HEADINGS, widths)]
        text += [_aligned(line, widths) for line in table]
    text += ["", "`caffe models run ROW` trains one; `caffe models check ROW` says what it needs."]
    if "first" in _commands(rows[0]):
        text += [f"The scripts are not in this folder; `{_WRITE_SCRIPTS}` writes them here."]
    return "\n".join(text[1:])


def _paper_order(row: Published) -> int:
    return list(PAPERS.values()).index(row.source)


def _cells(row: Published, model: Model) -> tuple[str, ...]:
    floats = model.cost.num_parameters
    return (
        row.name,
        row.trained_on,
        row.tested_on,
        "-" if row.score_percent is None else f"{row.score_percent:.1f}",
        f"{floats:,}" + ("*" if row.floats is None else " "),
        f"{floats * FLOAT_BYTES / 1e6:.1f}",
        f"{model.cost.num_flops / 1e9:.1f}",
        f"{model.cost.num_priors:,}",
        row.note,
    )


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        text.rjust(width) if i in _NUMBERS else text.ljust(width)
        for i, (text, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()


def format_model(rows: Sequence[Published], models: Models) -> str:
    """One model in full.

    Args:
        rows: its lines in the catalogue, at least one.
        models: the nets.
    """
    first, model = rows[0], models.of(rows[0])
    body = first.recipe.detector.body
    cost = model.cost
    floats = cost.num_parameters
    lines = [
        f"{first.variant}, a net of the family {first.family.name}",
        *dict.fromkeys(f"paper       {row.source}" for row in rows),
        f"input       {_shape(model.input_shape)}",
        f"body        {_settings(body)}",
        f"parameters  {floats:,} floats, a caffemodel of {floats * FLOAT_BYTES / 1e6:.1f} MB",
        f"operations  {cost.num_flops / 1e9:.1f} GFLOP, two for each multiply-accumulate",
        f"priors      {cost.num_priors:,}, {first.recipe.dataset.num_classes} classes",
        "",
        "Sources and priors",
        *_map_lines(model.maps),
    ]
    for row in rows:
        lines += ["", *_training_lines(row, models.of(row), model)]
    return "\n".join(lines)


def _settings(body: object) -> str:
    """What a body was made with: `DenseBody (growth 48, ...)`."""
    parts = [f"{name} {_plain(value)}" for name, value in body_settings(body).items()]
    return f"{type(body).__name__} ({', '.join(parts)})"


def _plain(value: object) -> str:
    if body_settings(value):
        return _settings(value)
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _map_lines(maps: Sequence[Map]) -> list[str]:
    cells = [
        (
            each.blob,
            _shape(each.shape),
            f"{each.priors.per_cell} per cell",
            f"{each.priors.count:,}",
            each.description,
        )
        for each in maps
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    return [
        f"  {blob:<{widths[0]}}  {shape:>{widths[1]}}  {per_cell:>{widths[2]}}  "
        f"{count:>{widths[3]}}  {description}"
        for blob, shape, per_cell, count, description in cells
    ]


def _training_lines(row: Published, model: Model, first: Model) -> list[str]:
    lines = [
        heading(row),
        *(f"  {verb:<7}{command}" for verb, command in _commands(row).items()),
    ]
    if row.floats is None:
        lines.append("  The published net is not known exactly.")
    if model is not first:
        cost = model.cost
        size = f"{cost.num_parameters:,} floats, {cost.num_flops / 1e9:.1f} GFLOP"
        lines.append(f"  with {row.recipe.dataset.num_classes} classes: {size}")
    for each in assumptions_of(row):
        lines += [f"  assumed: {each.text}", f"           ({each.source})"]
    return lines


def _entry(row: Published, models: Models, *, in_full: bool) -> dict[str, object]:
    """A line of the catalogue for programs."""
    model, recipe = models.of(row), row.recipe
    entry: dict[str, object] = {
        "row": row.name,
        "name": row.variant,
        "family": row.family.name,
        "paper": row.source,
        "trained_on": row.trained_on,
        "tested_on": row.tested_on,
        "map_percent": row.score_percent,
        "note": row.note,
        "floats": model.cost.num_parameters,
        "is_published_net": row.floats is not None,
        "published_file_mb": row.file_mb,
        "flops": model.cost.num_flops,
        "priors": model.cost.num_priors,
        "commands": _commands(row),
        "assumptions": [{"text": a.text, "source": a.source} for a in assumptions_of(row)],
    }
    if in_full:
        entry |= {
            "input": list(model.input_shape),
            "num_classes": recipe.dataset.num_classes,
            "body": type(recipe.detector.body).__name__,
            "body_settings": body_settings(recipe.detector.body),
            "maps": [
                {
                    "blob": each.blob,
                    "shape": list(each.shape),
                    "priors_per_cell": each.priors.per_cell,
                    "priors": each.priors.count,
                    "min_size_px": list(each.settings.min_size),
                    "max_size_px": list(each.settings.max_size),
                    "aspect_ratios": [round(ratio, 4) for ratio in each.settings.aspect_ratio],
                }
                for each in model.maps
            ],
        }
    return entry


def _commands(row: Published) -> dict[str, str]:
    """What to type in this folder; first what brings the scripts, where there are none."""
    commands = row.commands()
    script = commands["train"].split()[1]
    return commands if os.path.isfile(script) else {"first": _WRITE_SCRIPTS, **commands}


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("models", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", nargs="?", help="one model, or a family")
    parser.add_switch("json", help="print JSON")
    return parser.parse_action(arguments)
