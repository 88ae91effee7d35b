"""`caffe train`: train or finetune the net of a solver file.

Spec: caffe-net.md section 19; caffe-solver.md sections 2, 7 and 8.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from caffe_ssd import devices, log
from caffe_ssd.cli.computing_flags import (
    SYNCED,
    choose_speed,
    devices_each,
    use_computing_flags,
)
from caffe_ssd.cli.flags import check_files, net_state, weights_of
from caffe_ssd.cli.signals import SignalActions, watch
from caffe_ssd.cli.train_flags import AUTO, parse
from caffe_ssd.desk.console import run_command, warnings_only
from caffe_ssd.desk.flags import about_flag
from caffe_ssd.desk.log_file import HeldLines, check_log_file, listening, logged_to
from caffe_ssd.desk.training_bar import training_bar
from caffe_ssd.desk.training_digest import TrainingDigest
from caffe_ssd.desk.training_summary import images_per_pass
from caffe_ssd.errors import CaffeError, UsageError
from caffe_ssd.files import sweep
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net.loading import load_weights
from caffe_ssd.net.weights import RENAME_ADVICE, copy_trained_file
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import naming_solver, read_solver
from caffe_ssd.scoring.class_names import class_names
from caffe_ssd.solver.advice import Advisor
from caffe_ssd.solver.best import BestKeeper, best_test, check_has_score
from caffe_ssd.solver.hooks import Action
from caffe_ssd.solver.launch import launch
from caffe_ssd.solver.parallel import (
    Place,
    StoppedByRoot,
    device_of,
    join,
    place_from_environment,
    process_group,
    worker_settings,
)
from caffe_ssd.solver.prefix_lock import prefix_lock
from caffe_ssd.solver.results_file import Entry, ResultsFile, earlier_entries, results_path
from caffe_ssd.solver.resume import newest_snapshot
from caffe_ssd.solver.snapshot_files import best_path
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.tensorboard_log import TensorBoardLog, check_tensorboard

logger = logging.getLogger(__name__)

_MISFIT_ADVICE = f"{RENAME_ADVICE} -skip_mismatched trains all such layers afresh."
_NOTHING_FITS_ADVICE = "Take weights of this very net, or none."
# Flags that make another training of the same files.
_CHANGE_NUMBERS = ("bf16", "skip_jpeg_roundtrip", "sync_bn", "sync_loss")


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = parse(arguments)
    if args.log is not None:
        check_log_file(args.log)
    if args.tensorboard is not None:
        check_tensorboard(args.tensorboard)
    held = HeldLines()
    with _terminal(args), listening(held):
        settings, chosen, place = _prepare(args)
    args.said = held.lines  # for the log file, which nobody touches before the prefix is locked
    if len(chosen) == 1:
        return train(args, settings, chosen[0], place)
    with _terminal(args), logged_to(args.log):
        return launch(partial(_train_of_many, args, settings), chosen)


def _terminal(args: argparse.Namespace) -> AbstractContextManager[Console | None]:
    """Where the digest is shown; None if the log's own lines are."""
    return warnings_only() if args.digest else nullcontext()


def _prepare(args: argparse.Namespace) -> tuple[bytes, list[torch.device], Place | None]:
    """The solver's message, serialised, and where to train: one device if `torchrun` is there."""
    param = read_solver(args.solver, lenient=args.lenient)
    # -level always counts, so it overrides the net's own; test nets do not see it.
    state = net_state(args, "TRAIN")
    state.ClearField("phase")
    param.train_state.MergeFrom(state)
    if args.digest and args.log is None and param.snapshot_prefix:
        args.log = f"{param.snapshot_prefix}_train.log"
    check_files(args, *([] if args.snapshot == AUTO else ["snapshot"]), "weights")
    place = place_from_environment()
    if args.cpu_processes is not None:
        if place is not None:
            raise UsageError("-cpu_processes starts processes, but torchrun does so already")
        chosen = [torch.device("cpu")] * args.cpu_processes
    else:
        with about_flag("gpu"):
            chosen = devices.choose_devices(args.gpu, param, alone=place is None)
    if place is not None:
        chosen = [device_of(place, chosen)]
    else:
        devices.announce(chosen)
        for flag in SYNCED:
            if len(chosen) == 1 and getattr(args, flag):
                logger.warning("-%s has no effect on one device", flag)
    devices_each(args, len(chosen) if place is None else place.world_size)
    return param.SerializeToString(), chosen, place


def _train_of_many(
    args: argparse.Namespace, settings: bytes, device: torch.device, place: Place
) -> int:
    """Train in a process of its own among others."""
    debug = ["-debug"] if args.debug else []
    return run_command(lambda _: train(args, settings, device, place), "caffe", debug)


def train(
    args: argparse.Namespace, settings: bytes, device: torch.device, place: Place | None
) -> int:
    """Train in this process, alone or at its place among others.

    Args:
        args: the flags.
        settings: the solver's message, serialised.
        device: where to train.
        place: None for training alone.

    Returns:
        The exit status.
    """
    param = SolverParameter.FromString(settings)
    is_root = place is None or place.is_root
    each = devices_each(args, 1 if place is None else place.world_size)
    if place is not None and not is_root:
        param = worker_settings(param, place.rank * each)
        logging.getLogger("caffe_ssd").setLevel(logging.WARNING)
    with ExitStack() as stack:
        console = stack.enter_context(_terminal(args)) if is_root else None
        if console is not None:
            console.print(f"caffe train: {args.solver} on {_name(device, place)}")
        if is_root:
            stack.enter_context(prefix_lock(param.snapshot_prefix))
        stack.enter_context(_log_file(args, is_root))
        if device.type == "cpu":
            devices.keep_freed_memory()
        if is_root:
            _sweep(param.snapshot_prefix)
        with naming_solver(args.solver):
            solver = Solver(
                param,
                runtime=_runtime(args, device, place, each),
                device=device,
                lenient=args.lenient,
            )
        # Asks the device, which the data workers should be ahead of.
        choose_speed(args, device)
        devices.set_up_device(device, tf32=args.tf32, deterministic=args.deterministic)
        if is_root and _compares_tests(args):
            check_has_score(param, solver.test_nets)
        use_computing_flags(args, solver, each)
        solver.restart_data = args.restart_data
        solver.watchdog.effect = args.on_nan
        solver.options = tuple(name for name in _CHANGE_NUMBERS if getattr(args, name))
        start = _load(args, solver)
        solver.action_source = stack.enter_context(_watch(args, is_root)).action
        stop_the_others = _do_nothing
        if place is not None:
            stack.enter_context(process_group(place, device, args.peer_timeout))
            stop_the_others = join(
                solver,
                place,
                sync_bn=args.sync_bn,
                sync_loss=args.sync_loss,
                patience_s=args.peer_timeout,
            )
        digest = _observe(args, solver, stack, console) if is_root else None
        if digest is not None:
            digest.begin(start, args.log)
        _solve(solver, stop_the_others)
    if digest is not None:
        digest.end()
    return 0


def _name(device: torch.device, place: Place | None) -> str:
    """What a training runs on."""
    what = "the CPU" if device.type == "cpu" else f"GPU {device.index or 0}"
    return what if place is None else f"{what}, one of {place.world_size} processes"


def _runtime(
    args: argparse.Namespace, device: torch.device, place: Place | None, each: int
) -> Runtime:
    """The surroundings of the first of the `each` devices that this process stands for."""
    rank, world_size = (0, 1) if place is None else (place.rank, place.world_size)
    workers = args.workers
    if workers is None:
        workers = devices.default_workers(device, 1 if place is None else place.num_local)
    return Runtime(
        data_workers=-(-workers // each),
        rank=rank * each,
        world_size=world_size * each,
        jpeg_roundtrip=not args.skip_jpeg_roundtrip,
    )


def _log_file(args: argparse.Namespace, is_root: bool) -> AbstractContextManager[None]:
    """The log's file; the root begins it, all processes write to it."""
    said = args.said if is_root else ()
    return logged_to(args.log, start_anew=is_root and not args.snapshot, before=said)


def _sweep(prefix: str) -> None:
    """Remove what a killed training left half written."""
    if not prefix:
        return
    path = Path(prefix)
    for name in sweep(path.parent, path.name):
        logger.info("Removed %s, which a killed process left unfinished", path.parent / name)


def _watch(args: argparse.Namespace, is_root: bool) -> AbstractContextManager[SignalActions]:
    """Listen to signals; the root decides for all processes."""
    if is_root:
        return watch(sigint_effect=args.sigint_effect, sighup_effect=args.sighup_effect)
    return watch(sigint_effect="none", sighup_effect="none", sigterm_effect="none")


def _load(args: argparse.Namespace, solver: Solver) -> str:
    """Resume, or take over weights, as the flags ask; says what was done."""
    snapshot, is_auto = args.snapshot, args.snapshot == AUTO
    if is_auto:
        newest = newest_snapshot(solver.param.snapshot_prefix)
        snapshot = "" if newest is None else str(newest)
    if snapshot:
        log.RESUMING.write(path=snapshot)
        solver.restore(snapshot, strict=is_auto)
        if solver.iter >= solver.param.max_iter:
            logger.warning(
                "This training is finished: %s is at iteration %d, and max_iter is %d. Nothing "
                "is trained; raise max_iter to go on",
                *(snapshot, solver.iter, solver.param.max_iter),
            )
        return f"goes on from {snapshot}"
    paths = weights_of(args)
    for path in paths:
        log.FINETUNING.write(path=path)
    if paths:
        skip = args.skip_mismatched
        advice = _NOTHING_FITS_ADVICE if skip else _MISFIT_ADVICE
        load_weights(solver.net, paths, advice=advice, skip_misfits=skip)
        for net in solver.test_nets:  # layers that the train net does not have
            for path in paths:
                copy_trained_file(net, path, advice=advice, skip_misfits=skip)
    return f"weights of {', '.join(paths)}" if paths else "initial values"


def _observe(
    args: argparse.Namespace, solver: Solver, stack: ExitStack, console: Console | None
) -> TrainingDigest | None:
    """Let everybody watch who wants to."""
    param, observers = solver.param, solver.observers
    prefix = param.snapshot_prefix
    names = class_names([*solver.test_nets, solver.net][0])
    earlier = _earlier(args, solver)
    images = images_per_pass(solver.net) * param.iter_size * solver.runtime.world_size
    bar = training_bar(start=solver.iter, end=param.max_iter, images=images, console=console)
    observers.append(stack.enter_context(bar))
    digest = None
    if console is not None:
        kept = best_path(param) if args.keep_best else ""
        digest = TrainingDigest(solver, console, names, best_test(param, earlier), kept)
        observers.append(digest)
    if args.tensorboard is not None:
        board = TensorBoardLog(args.tensorboard, solver, names, images=images)
        stack.callback(board.close)
        observers.append(board)
    is_fresh = solver.iter == 0 and not weights_of(args)
    observers.append(Advisor(solver, names, is_fresh=is_fresh))
    if prefix:
        results = ResultsFile(results_path(prefix), solver.iter, names)
        observers.append(results)
        if _compares_tests(args):
            best = BestKeeper(
                solver, results, earlier, keep=args.keep_best, stop_after=args.stop_after
            )
            observers.append(best)
            solver.action_source = partial(_first_action, solver.action_source, best.action)
    return digest


def _earlier(args: argparse.Namespace, solver: Solver) -> list[Entry]:
    """What the trainings scored that this one resumes."""
    if not solver.param.snapshot_prefix:
        return []
    try:
        return earlier_entries(results_path(solver.param.snapshot_prefix), solver.iter)
    except CaffeError as error:
        if _compares_tests(args):
            raise
        logger.warning("What was scored before is not known: %s", error)
        return []


def _compares_tests(args: argparse.Namespace) -> bool:
    return args.keep_best or args.stop_after is not None


def _solve(solver: Solver, stop_the_others: Callable[[], None]) -> None:
    log.STARTING.write()
    try:
        solver.solve()
    except StoppedByRoot:
        return
    if solver.stopped_early and solver.iter < solver.param.max_iter:
        stop_the_others()
    log.TOOL_DONE.write()


def _first_action(*sources: Callable[[], Action]) -> Action:
    """What the first of these that wants something wants."""
    actions = (source() for source in sources)
    return next((action for action in actions if action is not Action.NONE), Action.NONE)


def _do_nothing() -> None:
    pass
