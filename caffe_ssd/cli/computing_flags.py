"""The flags of `caffe train` that say how to compute what the solver's file asks for."""

from __future__ import annotations

import argparse
import logging

import torch

from caffe_ssd import devices
from caffe_ssd.cli.flags import add_tf32_flag
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import UsageError
from caffe_ssd.net.compiled import use_compiled_parts
from caffe_ssd.solver.solver import Solver

logger = logging.getLogger(__name__)

ALL = "all"  # as -group: all passes of an iteration
SYNCED = ("sync_bn", "sync_loss")
_NOT_TOGETHER = {
    "compile": ("checkpoint", "group", "as_gpus", "sync_bn"),
    "cuda_graph": ("compile", "sync_bn", "sync_loss"),
}


def add_computing_flags(parser: FlagParser) -> None:
    """Add the flags."""
    add_tf32_flag(parser)
    parser.add_switch(
        "bf16",
        help="calculate convolutions in bfloat16: for devices made for it, other numbers",
    )
    parser.add_switch(
        "checkpoint",
        help="a third less memory, a third more time: compute blobs again for the backward pass",
    )
    parser.add_switch(
        "channels_last",
        default=None,
        help="images with channels innermost: up to a third faster on a CPU, where it is the rule "
        "for nets with BatchNorm; -channels_last=false: outermost; the difference is rounding",
    )
    parser.add_switch(
        "compile",
        help="generate code for this net first: takes minutes; other rounding; for GPUs",
    )
    parser.add_switch(
        "cuda_graph",
        help="GPU: capture a training pass once and replay it, which spares the host its part",
    )
    parser.add_switch(
        "fast",
        help="-channels_last, and -bf16 and -tf32 where the device is made for them; other numbers",
    )
    parser.add_switch(
        "deterministic",
        help="GPU: only kernels that give the same bits every time; slower (a CPU's always do)",
    )
    parser.add_flag(
        "group",
        metavar="N",
        help="make N passes of the iter_size ones as one, or 'all': the same statistics, losses "
        "and gradients, in larger and fewer steps",
    )
    parser.add_flag(
        "as_gpus",
        type=int,
        metavar="G",
        help="train as G GPUs would, with their data and batches, on the devices there are",
    )
    parser.add_switch(
        "sync_bn",
        help="several GPUs: batch-normalise by the statistics of all GPUs' batches together",
    )
    parser.add_switch(
        "sync_loss",
        help="several GPUs: divide losses by the matches on all GPUs, not each GPU by its own",
    )


def check_computing_flags(args: argparse.Namespace) -> None:
    """Check the flags for themselves.

    Raises:
        UsageError: a value makes no sense, or two flags contradict each other.
    """
    if args.group not in (None, ALL) and not (args.group.isdecimal() and int(args.group) > 0):
        raise UsageError(f"-group takes a number of passes or '{ALL}', got {args.group!r}")
    if args.as_gpus is not None and args.as_gpus < 1:
        raise UsageError(f"-as_gpus must be at least 1, got {args.as_gpus}")
    for flag in SYNCED:
        if getattr(args, flag) and (args.group is not None or args.as_gpus is not None):
            raise UsageError(
                f"-{flag} makes the batches of all GPUs one, -group and -as_gpus keep them apart; "
                "give one or the other"
            )
    for flag, others in _NOT_TOGETHER.items():
        for other in others:
            if getattr(args, flag) and getattr(args, other):
                raise UsageError(f"-{flag} and -{other} do not go together; leave one of them out")


def devices_each(args: argparse.Namespace, num_processes: int) -> int:
    """How many devices each training process stands for.

    Raises:
        UsageError: they cannot be dealt out evenly.
    """
    if args.as_gpus is None:
        return 1
    if args.as_gpus % num_processes:
        raise UsageError(
            f"-as_gpus {args.as_gpus} cannot be dealt out evenly to {num_processes} devices"
        )
    each: int = args.as_gpus // num_processes
    return each


def choose_speed(args: argparse.Namespace, device: torch.device) -> None:
    """Turn -fast into the flags that it stands for on a device, and say which they are."""
    if not args.fast:
        return
    chosen = []
    if args.channels_last is not False:
        args.channels_last = True
        chosen.append("-channels_last")
    args.bf16 = args.bf16 or devices.has_bfloat16(device)
    if args.bf16:
        chosen.append("-bf16")
    args.tf32 = args.tf32 or devices.has_tf32(device)
    if args.tf32:
        chosen.append("-tf32")
    without = "" if args.bf16 else "; not -bf16, for which this device has no instructions"
    logger.info("-fast stands for %s here%s", " ".join(chosen), without)


def use_computing_flags(args: argparse.Namespace, solver: Solver, num_devices: int) -> None:
    """Let the solver compute as the flags say.

    Args:
        args: the flags.
        solver: newly made.
        num_devices: see `devices_each`.
    """
    if args.group == ALL:
        solver.use_groups(None, num_devices)
    elif args.group is not None or num_devices > 1:
        solver.use_groups(int(args.group or 1), num_devices)
    if args.bf16:
        solver.net.use_bfloat16()
    if _channels_last(args, solver):
        solver.net.use_channels_last()
    if args.checkpoint:
        solver.net.use_checkpoints()
    if args.compile:
        devices.check_compiler(solver.device)
        calls = use_compiled_parts(solver.net)
        logger.info("-compile: %d calls of layers are compiled in the first iteration", calls)
    if args.cuda_graph and solver.device.type != "cuda":
        logger.warning("-cuda_graph has no effect on the CPU")
    elif args.cuda_graph:
        solver.use_cuda_graph()


def _channels_last(args: argparse.Namespace, solver: Solver) -> bool:
    """Whether channels are innermost: as said, else where it is known to be much faster.

    That is on the CPU for nets that normalise by batches. Others gain next to nothing, and stay
    with the order of sums in which trainings have been recorded.
    """
    if args.channels_last is not None or solver.device.type != "cpu" or args.compile:
        return bool(args.channels_last)
    return any(layer.running_state() for layer in solver.net.layers)
