"""One training iteration of DSOD300: `caffe train`'s step against plain PyTorch by hand.

example: python -m benchmarks.training --batch 4 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from google.protobuf import text_format
from torch import Tensor

from benchmarks.nets import dsod300_param, fed_by_hand, images, label_blob, objects
from benchmarks.pairs import Times, alternate
from benchmarks.plain_dsod import PlainDSOD300, copy_weights, multibox_loss
from caffe_ssd.devices import keep_freed_memory
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver import Solver

ROOT = Path(__file__).resolve().parents[1]
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


def caffe_step(batch: int, *, layout: str = "", checkpoint: bool = False) -> Callable[[], float]:
    """An iteration as `caffe train` makes it; returns the loss."""
    keep_freed_memory()
    solver = make_solver(batch)
    if layout == "channels_last":
        solver.net.use_channels_last()
    if checkpoint:
        solver.net.use_checkpoints()

    def step() -> float:
        solver.step(1)
        return solver.last_loss

    return step


CONTENDERS: dict[str, Callable[[int], Callable[[], float]]] = {
    "plain PyTorch": lambda batch: hand_written(make_solver(batch), batch),
    "caffe-ssd": caffe_step,
    "caffe-ssd, -channels_last": partial(caffe_step, layout="channels_last"),
    "caffe-ssd, -checkpoint": partial(caffe_step, checkpoint=True),
}


class Contender:
    """One way to train, in a process of its own.

    Args:
        name: of `CONTENDERS`.
        batch: images per iteration.
        threads: for PyTorch.
    """

    def __init__(self, name: str, batch: int, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.training", "--serve", name]
        command += ["--batch", str(batch), "--threads", str(threads)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        """One iteration; returns the loss."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(name: str, batch: int) -> None:
    """Make an iteration for every line read, and write its loss."""
    step = CONTENDERS[name](batch)
    for _ in sys.stdin:
        print(step(), flush=True)


def measure(batch: int, threads: int, rounds: int) -> tuple[Times, dict[str, float]]:
    """Times of all, and their first losses, which must be equal."""
    contenders = {name: Contender(name, batch, threads) for name in CONTENDERS}
    try:
        losses = {name: contender() for name, contender in contenders.items()}
        return alternate(contenders, rounds=rounds, warm_up=1), losses
    finally:
        for contender in contenders.values():
            contender.close()


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=4, help="images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--serve", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.serve:
        serve(args.serve, args.batch)
        return 0
    times, losses = measure(args.batch, args.threads, args.rounds)
    print(times.table("plain PyTorch", unit="s"))
    print("\nfirst losses:", ", ".join(f"{name} {loss:.5f}" for name, loss in losses.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
