"""`caffe models check`: what a row of the published tables lacks here, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from caffe.catalogue import Models, Published
from caffe.catalogue.needs import Need, disk_of, memory_of, needs_of
from caffe.models.recipe import make_nets

from caffe_ssd.cli.flags import ActionParser, only_device
from caffe_ssd.cli.models_select import heading, select
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError
from caffe_ssd.proto.upgrade import upgrade_net
from caffe_ssd.solver.trial import Trial, try_passes

DESCRIPTION = """\
Say what a row of the published tables lacks in this folder: data, by name, place and the command
that makes them, and weights; and what it would take: time, by real passes of its net on random
pictures on this machine, memory, disk. The exit status is 1 if something is missing. Several rows
get a line each, and without a name that is every row."""
EXAMPLES = """\
  caffe models check DSOD300-07+12
  caffe models check res34-07+12 -gpu 0
  caffe models check -no_time"""
DAY_S = 86400
BUSY = 0.3  # of the time of a measurement


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    parser = ActionParser("models check", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("name", metavar="NAME", nargs="?", help="a row, a model, or a family")
    parser.add_flag("gpu", default="", metavar="ID", help="id of the GPU to measure on; the CPU")
    parser.add_flag(
        "seconds", type=float, default=10.0, help="how long a net is measured (%(default)s)"
    )
    parser.add_switch("no_time", help="measure nothing")
    args = parser.parse_action(arguments)
    if not args.seconds >= 0:
        raise UsageError(f"-seconds must be at least 0, got {args.seconds:g}")
    rows = select(args.name)
    device = only_device(args)
    stopwatch = None if args.no_time else _Stopwatch(device, args.seconds)
    models = Models()
    status = 0
    for row in rows:
        needs = needs_of(row)
        status |= any(not need.is_there for need in needs)
        describe = format_check if len(rows) == 1 else format_line
        show(describe(row, needs, models, stopwatch))
    return status


class _Stopwatch:
    """Measures each net once.

    Args:
        device: where.
        seconds: for each.
    """

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.seconds = seconds
        self._known: dict[object, Trial] = {}

    def of(self, row: Published) -> Trial:
        """A pass of the row's net: of its batch on a GPU, of one picture on the CPU."""
        recipe = row.recipe
        batch = recipe.schedule.batch_size if self.device.type == "cuda" else 1
        key = (recipe.detector, recipe.dataset.num_classes, batch)
        if key not in self._known:
            self._known[key] = try_passes(
                upgrade_net(make_nets(recipe, "results")["train"]),
                batch=batch,
                size=recipe.detector.image_size,
                num_classes=recipe.dataset.num_classes,
                device=self.device,
                seconds=self.seconds,
            )
        return self._known[key]


def format_check(
    row: Published, needs: Sequence[Need], models: Models, stopwatch: _Stopwatch | None
) -> str:
    """All about one row.

    Args:
        row: of the catalogue.
        needs: what it needs.
        models: the nets.
        stopwatch: None for no measurement.
    """
    lines = [heading(row), "", "Needs"]
    for need in needs:
        lines.append(f"  {'ok     ' if need.is_there else 'missing'}  {need.path}  ({need.what})")
    missing = [need for need in needs if not need.is_there]
    if missing:
        lines += ["", "What is missing comes from"]
        lines += [f"  {source}" for source in dict.fromkeys(need.source for need in missing)]
    lines += ["", "Would take", *_cost_lines(row, models, stopwatch), ""]
    count = len(missing)
    lines.append(f"{count} thing{'s' * (count > 1)} missing." if missing else "Nothing is missing.")
    return "\n".join(lines)


def _cost_lines(row: Published, models: Models, stopwatch: _Stopwatch | None) -> list[str]:
    cost, schedule = models.of(row).cost, row.recipe.schedule
    disk = disk_of(row, cost)
    batch = schedule.test_batch_size if row.at_scales else schedule.batch_size
    room = f"{disk.archives / 1e9:.1f} GB of archives, about as much of databases"
    if disk.num_snapshots:
        room += f", {disk.snapshots / 1e9:.1f} GB of {disk.num_snapshots} snapshots"
    lines = [
        f"  memory  {memory_of(row, cost) / 1e9:.1f} GB for a pass of {batch} (blobs and weights)",
        f"  disk    {room}",
    ]
    return lines if stopwatch is None else [_time_line(row, stopwatch), *lines]


def _time_line(row: Published, stopwatch: _Stopwatch) -> str:
    trial, schedule = stopwatch.of(row), row.recipe.schedule
    measured = f"{trial.seconds_per_pass:.2f} s for a pass of {trial.batch} on {stopwatch.device}"
    if trial.peak_bytes is not None:
        measured += f", {trial.peak_bytes / 1e9:.1f} GB at most"
    if stopwatch.device.type == "cpu" and trial.idle_share > BUSY:
        measured += f"; other processes had the machine for {trial.idle_share:.0%} of that time"
    if row.at_scales:
        return f"  time    a test; a training's {measured}"
    images = schedule.images_per_iteration(schedule.num_devices)
    return (
        f"  time    {_days(row, trial):.1f} days on one such device: {schedule.max_iter:,} "
        f"iterations of {images} images ({measured}; without reading data)"
    )


def _days(row: Published, trial: Trial) -> float:
    schedule = row.recipe.schedule
    images: int = schedule.max_iter * schedule.images_per_iteration(schedule.num_devices)
    return images * trial.seconds_per_image / DAY_S


def format_line(
    row: Published, needs: Sequence[Need], models: Models, stopwatch: _Stopwatch | None
) -> str:
    """One row among others; see `format_check`."""
    cost = models.of(row).cost
    missing = sum(not need.is_there for need in needs)
    words = [f"{row.name:<30}", f"{missing} missing" if missing else "complete "]
    if stopwatch is not None:
        days = 0.0 if row.at_scales else _days(row, stopwatch.of(row))
        words.append(f"{days:7.1f} days" if days else f"{'a test':>12}")
    words.append(f"{memory_of(row, cost) / 1e9:6.1f} GB memory")
    words.append(f"{disk_of(row, cost).snapshots / 1e9:6.1f} GB snapshots")
    return "  ".join(words)
