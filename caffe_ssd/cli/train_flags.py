"""The flags of `caffe train`."""

from __future__ import annotations

import argparse

from caffe_ssd.cli.computing_flags import add_computing_flags, check_computing_flags
from caffe_ssd.cli.flags import (
    ActionParser,
    add_lenient_flag,
    add_workers_flag,
    at_least,
    required,
)
from caffe_ssd.desk.console import is_terminal
from caffe_ssd.errors import UsageError
from caffe_ssd.solver.parallel import PATIENCE_S
from caffe_ssd.solver.watchdog import EFFECTS

AUTO = "auto"  # as -snapshot: go on from the newest one, if there is one

DESCRIPTION = "Train or finetune the net of a solver file."
EXAMPLES = """\
  caffe train -solver solver.prototxt -gpu 0
  caffe train -solver solver.prototxt -weights VGG_ILSVRC_16.caffemodel -gpu 0,1
  caffe train -solver solver.prototxt -gpu 0,1,2,3 -sync-bn -sync-loss
  caffe train -solver solver.prototxt -gpu 0 -as-gpus 8 -group all
  caffe train -solver solver.prototxt -snapshot models/net_iter_8000.solverstate
  caffe train -solver solver.prototxt -snapshot auto
  caffe train -solver solver.prototxt -keep_best -stop_after 5 -log train.log
  torchrun --nproc-per-node 4 -m caffe_ssd train -solver solver.prototxt -snapshot auto

Ctrl-C or `kill` stops after a snapshot, at the second time at once; `kill -HUP` makes a snapshot
and goes on.
Losses and scores are also kept in <snapshot_prefix>_results.jsonl."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse a command line.

    Raises:
        UsageError: it makes no sense.
    """
    parser = ActionParser("train", description=DESCRIPTION, examples=EXAMPLES)
    _add_what(parser)
    _add_how(parser)
    _add_watching(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    _check(args)
    args.digest = is_terminal() if args.digest == "auto" else args.digest == "on"
    return args


def _add_what(parser: ActionParser) -> None:
    """What is trained, from where on, and on what."""
    parser.add_reference_flags(
        "solver",
        "level",
        "stage",
        "sigint_effect",
        "sighup_effect",
        gpu="ids of the GPUs to run on, separated by ',', or 'all'; the batch size is per GPU "
        "(the solver's)",
        snapshot="solver state to resume from; 'auto': the newest of snapshot_prefix, if any",
        weights="weights to start from, separated by ','; not together with -snapshot",
    )
    add_workers_flag(parser, " per device")
    parser.add_switch(
        "restart_data",
        help="with -snapshot: begin again at the first record, as the original Caffe does",
    )
    parser.add_switch(
        "skip_jpeg_roundtrip",
        help="augment without Caffe's passes through JPEG: faster, other numbers",
    )
    parser.add_flag(
        "cpu_processes",
        type=int,
        metavar="N",
        help="train on the CPU, in N processes with a batch each, instead of -gpu",
    )


def _add_how(parser: ActionParser) -> None:
    """What changes numbers, speed or memory."""
    add_computing_flags(parser)
    parser.add_flag(
        "peer_timeout",
        type=float,
        default=PATIENCE_S,
        metavar="S",
        help="several processes: fail if another one does not answer for S seconds (%(default)s)",
    )
    parser.add_switch(
        "skip_mismatched",
        help="with -weights: layers of other shapes in the file start anew, with a warning each",
    )
    parser.add_flag(
        "on_nan",
        choices=EFFECTS,
        default="stop",
        help="what a loss or gradient does that is not finite (%(default)s)",
    )


def _add_watching(parser: ActionParser) -> None:
    """What is kept and told of the training."""
    parser.add_switch(
        "keep_best",
        help="write the weights of the test with the best mAP to <snapshot_prefix>_best.caffemodel",
    )
    parser.add_flag(
        "stop_after",
        type=int,
        metavar="N",
        help="stop, with a snapshot, after N tests in a row that were not better than the best",
    )
    parser.add_flag(
        "log",
        metavar="FILE",
        help="write the log to FILE, too; a training that resumes appends to it "
        "(<snapshot_prefix>_train.log with -digest)",
    )
    parser.add_flag(
        "tensorboard",
        metavar="DIR",
        help="write losses, rates, gradients, scores and a few pictures to DIR for TensorBoard",
    )
    parser.add_flag(
        "digest",
        choices=("auto", "on", "off"),
        default="auto",
        help="show what matters to people in place of the log's lines; 'auto': on a terminal",
    )


def _check(args: argparse.Namespace) -> None:
    required(args, "solver")
    if args.snapshot not in ("", AUTO) and args.weights:
        raise UsageError("give -snapshot to resume or -weights to finetune, not both")
    if args.cpu_processes is not None and (args.gpu or args.cpu_processes < 1):
        given = f"-gpu {args.gpu}" if args.gpu else str(args.cpu_processes)
        raise UsageError(f"-cpu_processes takes at least 1 process and no -gpu, got {given}")
    at_least(args, "workers", 0)
    at_least(args, "stop_after", 1)
    check_computing_flags(args)
    if not args.peer_timeout > 0:
        raise UsageError(f"-peer_timeout must be more than 0, got {args.peer_timeout:g}")
