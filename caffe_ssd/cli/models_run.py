"""`caffe models run`: write the files of a row of the published tables and start it."""

from __future__ import annotations

import os
from typing import Any

from caffe.catalogue import Published
from caffe.catalogue.jobs import job_of
from caffe.models.devices import choose_gpus, count_gpus

from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.cli.models_select import heading, select_row
from caffe_ssd.desk.console import show
from caffe_ssd.errors import FileError, UsageError

DESCRIPTION = """\
Write the files of one row of the published tables, as its script does, and start it.

A row is trained, in a folder of its own, and goes on from its newest snapshot; a row that is a test
at several scales is scored. On other devices than the published ones the images per iteration
stay, where they can be shared among the devices."""
EXAMPLES = """\
  caffe models run DSOD300-07+12 -print
  caffe models run res34-07+12 -gpu 0,1
  caffe models run res34-07+12-multi"""
_ANY_GPU = 2**31


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    parser = ActionParser("models run", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="a row, as `caffe models` names it")
    parser.add_flag(
        "gpu", metavar="IDS", help="ids like 0,1,2, all, or none (as many as published)"
    )
    parser.add_flag("workers", type=int, metavar="N", help="processes that prepare data")
    parser.add_switch("print", help="show files and commands; write and start nothing")
    args = parser.parse_action(arguments)
    row = select_row(args.name)
    flags = [] if args.workers is None or row.at_scales else ["--workers", str(args.workers)]
    gpus = _gpus(row, args.gpu, is_shown=args.print)
    flags += ["--gpu", ",".join(map(str, gpus)) if gpus else "none"]
    try:
        job = job_of(row, flags, is_shown=args.print)
    except ValueError as error:  # data or weights are missing
        raise FileError(f"{error}\n`caffe models check {row.name}` lists all it needs") from error
    if args.print:
        show(format_job(row, job, len(gpus)))
        return 0
    script = row.score_script if row.at_scales else row.script
    status: int = job.carry_out(script if os.path.isfile(script) else None, run=True)
    return status


def _gpus(row: Published, wanted: str | None, *, is_shown: bool) -> list[int]:
    """The devices; only looked at, they may be those of another machine."""
    is_list = wanted not in (None, "all", "none")
    available = _ANY_GPU if is_shown and is_list else count_gpus()
    try:
        gpus: list[int] = choose_gpus(wanted, available, row.recipe.schedule.num_devices)
    except ValueError as error:
        raise UsageError(str(error).replace("--gpu", "-gpu")) from error
    return gpus


def format_job(row: Published, job: Any, num_gpus: int) -> str:
    """The files of a job and what they say.

    Args:
        row: of the catalogue.
        job: its plan, a `caffe.models.plans.Plan`.
        num_gpus: 0 for the CPU.
    """
    places, solver = job.places, job.messages["solver"]
    shell = f"{places.job_dir}/{job.recipe.model_name}.sh"
    lines = [heading(row), "", "Files"]
    for kind, net in job.messages.items():
        layers = "" if kind == "solver" else f"  ({len(net.layer)} layers)"
        lines.append(f"  {places.model_dir}/{kind}.prototxt{layers}")
    if not row.at_scales:
        lines.append(f"  {places.snapshot_prefix(job.recipe)}_iter_N.caffemodel, .solverstate")
    lines += [f"  {shell}", f"  {places.output_dir}/  (results on the test set)"]
    if not row.at_scales:
        lines += ["", _iteration(job, num_gpus)]
        lines += ["", f"{places.model_dir}/solver.prototxt", *_indented(str(solver))]
    lines += ["", shell, *_indented(job.shell)]
    after = row.commands()
    verbs = [verb for verb in ("score", "pack")[row.at_scales :] if verb in after]
    if verbs:
        lines += ["", "Afterwards", *(f"  {after[verb]}" for verb in verbs)]
    return "\n".join(lines)


def _iteration(job: Any, num_gpus: int) -> str:
    passes, each = job.messages["solver"].iter_size, job.recipe.schedule.batch_size
    images = passes * each * max(1, num_gpus)
    devices = f"{num_gpus} GPU{'s' * (num_gpus > 1)}" if num_gpus else "the CPU"
    return f"An iteration on {devices}: {images} images, passes {passes} x {each} on each device."


def _indented(text: str) -> list[str]:
    return [f"  {line}" if line else "" for line in text.splitlines()]
