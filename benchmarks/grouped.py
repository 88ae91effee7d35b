"""One training iteration of several passes: made one by one, and as one (`caffe train -group all`).

example: python -m benchmarks.grouped --batch 4 --passes 8 --size 128 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import torch
from google.protobuf import text_format

from benchmarks.nets import dsod300_param, fed_by_hand, images, label_blob, objects
from benchmarks.pairs import alternate
from benchmarks.training import SOLVER, FedSolver
from caffe_ssd.devices import keep_freed_memory
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter


class PassSolver(FedSolver):
    """Adds up the losses of an iteration's passes, which are each fed the same batch."""

    def begin(self) -> None:
        """A new iteration."""
        self.total = 0.0

    def forward_backward(self, net: Net) -> NetResult:
        result = super().forward_backward(net)
        self.total += self.last_loss / self.param.iter_size
        return result


def iteration(args: argparse.Namespace, *modes: str, joined: bool) -> Callable[[], float]:
    """An iteration of DSOD300_smallest; returns its loss."""
    images_at_once = args.batch * (args.passes if joined else 1)
    param = SolverParameter()
    text_format.Parse(SOLVER, param)
    param.iter_size = args.passes
    net = fed_by_hand(dsod300_param("train", variant="smallest"), batch=args.batch, size=args.size)
    param.train_net_param.CopyFrom(net)
    pictures = images(args.batch, size=args.size).repeat(images_at_once // args.batch, 1, 1, 1)
    found = objects(args.batch) * (images_at_once // args.batch)
    solver = PassSolver(param, {"data": pictures, "label": label_blob(found)})
    if joined:
        solver.use_groups()
    for mode in modes:
        getattr(solver.net, f"use_{mode}")()

    def step() -> float:
        solver.begin()
        solver.step(1)
        return solver.total

    return step


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4, help="images of a pass (%(default)s)")
    parser.add_argument("--passes", type=int, default=8, help="of an iteration (%(default)s)")
    parser.add_argument("--size", type=int, default=300, help="of the pictures (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    things = {}
    for flags, modes in {
        "": (),
        " -channels_last": ("channels_last",),
        " -channels_last -bf16": ("channels_last", "bfloat16"),
    }.items():
        things[f"one by one{flags}"] = iteration(args, *modes, joined=False)
        things[f"-group all{flags}"] = iteration(args, *modes, joined=True)
    print("first losses:", {name: round(thing(), 5) for name, thing in things.items()})
    times = alternate(things, rounds=args.rounds, warm_up=1)
    print(times.table("one by one", unit="s"))
    for slow, fast in zip(list(things)[::2], list(things)[1::2], strict=True):
        print(f"{fast}: {times.ratio(slow, fast):.2f} times as fast as {slow}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
