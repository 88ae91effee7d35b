"""`caffe fit`: from a folder of annotated pictures to a detector and a report about it.

A composition of what the other commands do: read and check the pictures, make LMDBs, write nets and
solver, `caffe train`, `caffe recalibrate`, `caffe test`, `caffe report`.
"""

from __future__ import annotations

import argparse
import math
import platform
import re
import shlex
import time
from datetime import datetime
from importlib.metadata import version
from typing import Any

from caffe_ssd import __version__
from caffe_ssd.cli import train
from caffe_ssd.cli.flags import (
    FLAGS,
    ActionParser,
    add_workers_flag,
    at_least,
    check_files,
    only_device,
)
from caffe_ssd.desk.console import show, warnings_only
from caffe_ssd.distribution import NAME
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.fitting.data import prepare
from caffe_ssd.fitting.finish import choose_weights, recomputing_passes
from caffe_ssd.fitting.machine import Machine, machine_of
from caffe_ssd.fitting.measure import NEEDED, seconds_per_iteration
from caffe_ssd.fitting.nets import MODELS, measured_solver, write_nets
from caffe_ssd.fitting.plan import DataFacts, Plan, Wishes, make_plan, with_length
from caffe_ssd.fitting.run_folder import RunFolder, check_new, check_same, run_folder
from caffe_ssd.report.report import write_report
from caffe_ssd.solver.resume import newest_snapshot

DESCRIPTION = """\
Train a detector on a folder of annotated pictures, and report what it can do.

The folder holds pictures with boxes in VOC, COCO, YOLO, CVAT, LabelMe or CSV form. They are
checked, split into pictures to train on and to score on, and stored; net, input, batch, rate and
length are chosen from pictures and machine, each with its reason. RUN keeps every file, so that
`caffe train -solver RUN/model/solver.prototxt` and the other commands go on by hand."""
EXAMPLES = """\
  caffe fit my_pictures
  caffe fit my_pictures -time 30m -output detector
  caffe fit my_pictures -output detector -resume
  caffe fit my_pictures -model dsod -gpu 0
  caffe fit my_pictures -plan_only"""

# Flags that decide what a run is; a resumed one keeps them.
_FIXED = (
    *("weights", "time", "model", "size", "batch", "rate", "iterations"),
    *("classes", "test_share", "format", "seed"),
)
# A test picture takes a forward pass of a training picture's three, and is decoded.
_FORWARD_SHARE = 0.45
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    begin = time.monotonic()
    args = _parse(arguments)
    run = run_folder(args.folder, args.output)
    machine = machine_of(only_device(args))
    if args.resume and run.is_planned:
        plan = _planned(args, run)
    else:
        check_new(run)
        plan = _prepare(args, run, machine, begin)
    if args.plan_only:
        show(f"\nwrote {run.root}; `{_resuming(args, run)}` trains")
        return 0
    status = train.run(_training_flags(args, run, plan, machine))
    if status != 0 or not run.snapshot(plan.iterations).exists():
        show(f"stopped; `{_resuming(args, run)}` goes on")
        return status
    return _finish(args, run, plan, machine)


def _resuming(args: argparse.Namespace, run: RunFolder) -> str:
    return shlex.join(["caffe", "fit", args.folder, "-output", str(run.root), "-resume"])


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("fit", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", help="the annotated pictures")
    parser.add_flag("gpu", default="", help=FLAGS["gpu"].help)
    parser.add_flag("weights", default="", help="weights to start from, separated by ','")
    parser.add_flag("output", metavar="RUN", help="the run's folder (<name of FOLDER>_fit)")
    parser.add_flag("time", metavar="T", help="how long it may take in all: 30m, 2h, 90s")
    parser.add_flag("model", choices=tuple(MODELS), help="the net (by the machine)")
    parser.add_flag("size", type=int, metavar="PX", help="side of the net's input (the net's own)")
    parser.add_flag("batch", type=int, metavar="N", help="pictures per iteration")
    parser.add_flag("rate", type=float, metavar="LR", help="learning rate at the start")
    parser.add_flag("iterations", type=int, metavar="N", help="length; excludes -time")
    parser.add_flag("classes", metavar="A,B", help="take these classes only, separated by ','")
    parser.add_flag(
        "test_share",
        type=float,
        default=0.2,
        metavar="F",
        help="of the pictures to score on, where the folder is not split (%(default)s)",
    )
    parser.add_flag("format", help="of the annotations (what is found)")
    parser.add_flag("seed", type=int, default=1, help="of split and training (%(default)s)")
    add_workers_flag(parser)
    parser.add_switch("anyway", help="train although the pictures' check finds errors")
    parser.add_switch("plan_only", help="check, store and plan, but do not train")
    parser.add_switch("resume", help="go on with a run that was stopped")
    args = parser.parse_action(arguments)
    # A smaller input leaves one cell of the coarse maps, too little to normalise over.
    for name, least in (("size", 128), ("batch", 2), ("iterations", 1), ("seed", 0)):
        at_least(args, name, least)
    if args.rate is not None and not 0 < args.rate < math.inf:
        raise UsageError(f"-rate must be a number above 0, got {args.rate}")
    if args.time is not None and args.iterations is not None:
        raise UsageError("give -time or -iterations, not both")
    if args.weights:
        check_files(args, "weights")
    args.time = None if args.time is None else _seconds(args.time)
    args.classes = None if args.classes is None else _names(args.classes)
    given = {name: getattr(args, name) for name in _FIXED}
    args.asked = {n: value for n, value in given.items() if value != parser.get_default(n)}
    return args


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text.replace(" ", ""))
    parts = [0.0] if match is None else [float(part or 0) for part in match.groups()]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if seconds <= 0:
        raise UsageError(f"-time is {text!r}; write it like 30m, 2h, 1h30m or 90s")
    return seconds


def _prepare(args: argparse.Namespace, run: RunFolder, machine: Machine, begin: float) -> Plan:
    """Make data, nets and plan."""
    wishes = Wishes(
        model=args.model,
        image_size=args.size,
        batch_size=args.batch,
        iterations=args.iterations,
        base_lr=args.rate,
        time_s=args.time,
        weights=args.weights,
        seed=args.seed,
    )
    beginning = _beginning(args, run, machine)
    data = prepare(
        args.folder,
        run,
        format=args.format,
        classes=args.classes,
        test_share=args.test_share,
        seed=args.seed,
        anyway=args.anyway,
        notes=beginning,
        show=show,
    )
    plan = make_plan(data, machine, wishes)
    _write(run, plan, data, machine)
    iteration_s = seconds_per_iteration(
        measured_solver(run, NEEDED), machine, plan.fast, args.workers
    )
    plan = with_length(
        plan,
        data,
        wishes,
        iteration_s=iteration_s,
        picture_s=_FORWARD_SHARE * iteration_s / plan.batch_size,
        left_s=0 if args.time is None else args.time - (time.monotonic() - begin),
    )
    _write(run, plan, data, machine)
    _note(run, beginning, plan, data)
    show("\nplan")
    for name, reason in plan.reasons.items():
        show(f"  {name:<11}{reason}")
    return plan


def _write(run: RunFolder, plan: Plan, data: DataFacts, machine: Machine) -> None:
    write_nets(plan, run, data.classes, data.num_test, cuda=machine.is_cuda)


def _note(run: RunFolder, beginning: dict[str, Any], plan: Plan, data: DataFacts) -> None:
    """Keep what a resumed run and the report need to know."""
    run.write_notes(
        {
            **beginning,
            "data": {
                "train": data.num_train,
                "test": data.num_test,
                "classes": list(data.classes),
            },
            "plan": plan.to_dict(),
        }
    )


def _beginning(args: argparse.Namespace, run: RunFolder, machine: Machine) -> dict[str, Any]:
    return {
        "source": str(args.folder),
        "root": str(run.root),
        "asked": args.asked,
        "begun": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": str(machine),
        "versions": _versions(),
    }


def _planned(args: argparse.Namespace, run: RunFolder) -> Plan:
    notes = run.read_notes()
    check_same(run, args.folder, args.asked, notes)
    try:
        return Plan.from_dict(notes["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{run.notes} is damaged: {error!r}; begin anew in another folder"
        ) from error


def _training_flags(
    args: argparse.Namespace, run: RunFolder, plan: Plan, machine: Machine
) -> list[str]:
    """The flags of the `caffe train` that this run is."""
    flags = ["-solver", str(run.prototxt("solver"))]
    if plan.weights and newest_snapshot(str(run.prefix)) is None:
        flags += ["-weights", plan.weights, "-skip_mismatched"]
    else:
        flags += ["-snapshot", "auto"]
    flags += ["-keep_best", "-log", str(run.log), "-digest", "on"]
    flags += [f"-{name}" for name in plan.fast]
    if machine.is_cuda:
        flags += ["-gpu", str(machine.device.index or 0)]
    if args.workers is not None:
        flags += ["-workers", str(args.workers)]
    return flags


def _finish(args: argparse.Namespace, run: RunFolder, plan: Plan, machine: Machine) -> int:
    """Choose the weights, report, and say what there is."""
    passes = recomputing_passes(plan)
    show(f"scoring what was learnt, BatchNorm's statistics recomputed over {passes} passes, too")
    found = choose_weights(run, plan, device=machine.device, workers=args.workers)
    for each in found:
        show(f"  mAP {each.mean_ap:.3f}  {each.name}")
    with warnings_only():
        write_report(run.root, device=machine.device, workers=args.workers)
    command = ["caffe", "detect", "PICTURE", "-model", str(run.prototxt("deploy"))]
    command += ["-weights", str(run.detector), "-label_map", str(run.label_map)]
    show(
        f"\nmAP {found[0].mean_ap:.3f} (11point) on the test pictures with {run.detector}\n"
        f"report: {run.report}\n"
        f"use it: {shlex.join(command)}"
    )
    return 0


def _versions() -> dict[str, str]:
    return {NAME: __version__, "torch": version("torch"), "python": platform.python_version()}
