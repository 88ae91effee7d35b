"""One training iteration of DSOD300: `caffe train`'s step against plain PyTorch by hand.

example: python -m benchmarks.training --batch 4 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import torch
from google.protobuf import text_format
from torch import Tensor

from benchmarks.nets import dsod300_param, fed_by_hand, images, label_blob, objects
from benchmarks.pairs import Times, alternate
from benchmarks.plain_dsod import PlainDSOD300, copy_weights, multibox_loss
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver import Solver

SOLVER = """
base_lr: 0.001 momentum: 0.9 weight_decay: 0.0005 lr_policy: "fixed"
max_iter: 1000 display: 0 snapshot_after_train: false random_seed: 1
"""


class FedSolver(Solver):
    """`caffe train`'s solver on one batch that lies in memory: the data layers are left out."""

    def __init__(self, param: SolverParameter, inputs: dict[str, Tensor]) -> None:
        self.inputs = inputs
        self.last_loss = 0.0
        super().__init__(param)

    def forward_backward(self, net: Net) -> NetResult:
        result = net(self.inputs)
        result.loss.backward()
        self.last_loss = result.loss.item()
        return result  # type: ignore[no-any-return]


def make_solver(batch: int) -> FedSolver:
    """The solver of DSOD300's training, fed with random pictures and objects."""
    param = SolverParameter()
    text_format.Parse(SOLVER, param)
    param.train_net_param.CopyFrom(fed_by_hand(dsod300_param("train"), batch=batch))
    return FedSolver(param, {"data": images(batch), "label": label_blob(objects(batch))})


def hand_written(solver: FedSolver, batch: int) -> Callable[[], float]:
    """The same iteration in plain PyTorch, from the same weights; returns the loss."""
    plain = PlainDSOD300()
    copy_weights(solver.net, plain)
    with torch.no_grad():
        blobs = solver.net(solver.inputs, keep=["mbox_priorbox"]).blobs
    priors = blobs["mbox_priorbox"][0, 0].view(-1, 4)
    x, found = solver.inputs["data"], objects(batch)
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, foreach=True
    )

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = multibox_loss(*plain(x), priors, found)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def measure(batch: int, rounds: int) -> tuple[Times, tuple[float, float]]:
    """Times of both, and the first losses of both, which must be equal."""
    solver = make_solver(batch)
    by_hand = hand_written(solver, batch)
    solver.step(1)
    first = solver.last_loss, by_hand()
    things = {"plain PyTorch": by_hand, "caffe-ssd": lambda: solver.step(1)}
    return alternate(things, rounds=rounds, warm_up=1), first


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4, help="images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    times, losses = measure(args.batch, args.rounds)
    print(f"first losses: caffe-ssd {losses[0]:.5f}, by hand {losses[1]:.5f}\n")
    print(times.table("plain PyTorch", unit="s"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
