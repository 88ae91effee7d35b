"""One training iteration of a detector: `caffe train`'s step against plain PyTorch by hand.

example: python -m benchmarks.training --variant smallest --batch 4 --passes 8 --rounds 5

An iteration has several passes where `--passes` says so; `-group all` makes one of them. Only DSOD
has been written by hand; the others are compared with `caffe train` without flags.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from google.protobuf import text_format
from torch import Tensor

from benchmarks.nets import TRAINED, fed_by_hand, images, label_blob, objects, train_param
from benchmarks.pairs import Times, alternate, benchmark_parser
from benchmarks.plain_dsod import PlainDSOD300, copy_weights, multibox_loss
from caffe_ssd.devices import keep_freed_memory
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.compiled import use_compiled_parts
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver import Solver

ROOT = Path(__file__).resolve().parents[1]
SOLVER = """
base_lr: 0.001 momentum: 0.9 weight_decay: 0.0005 lr_policy: "fixed"
max_iter: 1000 display: 0 snapshot_after_train: false random_seed: 1
"""


BY_HAND = {"DSOD300": {}, "smallest": {"bottleneck": 64, "growth": 16}}


@dataclass(frozen=True)
class Setting:
    """What is trained.

    Args:
        variant: of `TRAINED`.
        batch: images of a pass.
        passes: of an iteration; each gets the same images.
        size: of the images.
    """

    variant: str = "DSOD300"
    batch: int = 4
    passes: int = 1
    size: int = 300


class FedSolver(Solver):
    """`caffe train`'s solver on one batch that lies in memory: the data layers are left out."""

    def __init__(self, param: SolverParameter, inputs: dict[str, Tensor]) -> None:
        self.inputs = inputs
        self.loss_sum = 0.0
        super().__init__(param)

    def forward_backward(self, net: Net) -> NetResult:
        result = net(self.inputs)
        result.loss.backward()
        self.loss_sum += result.loss.item()
        return result  # type: ignore[no-any-return]


def make_solver(setting: Setting, *, joined: bool = False) -> FedSolver:
    """The solver of DSOD's training, fed with random pictures and objects."""
    param = SolverParameter()
    text_format.Parse(SOLVER, param)
    param.iter_size = setting.passes
    net = fed_by_hand(train_param(setting.variant), batch=setting.batch, size=setting.size)
    param.train_net_param.CopyFrom(net)
    times = setting.passes if joined else 1
    pictures = images(setting.batch, size=setting.size).repeat(times, 1, 1, 1)
    found = label_blob(objects(setting.batch) * times)
    solver = FedSolver(param, {"data": pictures, "label": found})
    if joined:
        solver.use_groups()
    return solver


def hand_written(setting: Setting) -> Callable[[], float]:
    """The same iteration in plain PyTorch, from the same weights; returns the loss."""
    solver = make_solver(setting)
    plain = PlainDSOD300(**BY_HAND[setting.variant])
    copy_weights(solver.net, plain)
    with torch.no_grad():
        blobs = solver.net(solver.inputs, keep=["mbox_priorbox"]).blobs
    priors = blobs["mbox_priorbox"][0, 0].view(-1, 4)
    x, found = solver.inputs["data"], objects(setting.batch)
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005, foreach=True
    )

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _ in range(setting.passes):
            loss = multibox_loss(*plain(x), priors, found) / setting.passes
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        optimizer.step()
        return total

    return step


def caffe_step(
    setting: Setting, *modes: str, joined: bool = False, compiled: bool = False
) -> Callable[[], float]:
    """An iteration as `caffe train` makes it; returns the loss.

    Args:
        setting: what is trained.
        modes: of the net, such as `channels_last`.
        joined: all passes as one.
        compiled: what can be compiled is.
    """
    keep_freed_memory()
    solver = make_solver(setting, joined=joined)
    for mode in modes:
        getattr(solver.net, f"use_{mode}")()
    if compiled:
        use_compiled_parts(solver.net)

    def step() -> float:
        solver.loss_sum = 0.0
        solver.step(1)
        return solver.loss_sum / setting.passes

    return step


_RULE = ("channels_last",)  # on CPUs
CONTENDERS: dict[str, Callable[[Setting], Callable[[], float]]] = {
    "plain PyTorch": hand_written,
    "caffe train": lambda setting: caffe_step(setting, *_RULE),
    "-channels_last=false": caffe_step,
    "-bf16": lambda setting: caffe_step(setting, *_RULE, "bfloat16"),
    "-compile": lambda setting: caffe_step(setting, compiled=True),
    "-checkpoint": lambda setting: caffe_step(setting, *_RULE, "checkpoints"),
    "-group all": lambda setting: caffe_step(setting, *_RULE, joined=True),
    "-group all -bf16": lambda setting: caffe_step(setting, *_RULE, "bfloat16", joined=True),
}


class Contender:
    """One way to train, in a process of its own.

    Args:
        name: of `CONTENDERS`.
        setting: what is trained.
        threads: for PyTorch.
    """

    def __init__(self, name: str, setting: Setting, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.training", f"--serve={name}"]
        command += [f"--{flag}={value}" for flag, value in vars(setting).items()]
        command += ["--threads", str(threads)]
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


def serve(name: str, setting: Setting) -> None:
    """Make an iteration for every line read, and write its loss."""
    step = CONTENDERS[name](setting)
    for _ in sys.stdin:
        print(step(), flush=True)


def ways(text: str) -> list[str]:
    """The names of contenders in a list."""
    names = text.split(",")
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}")
    return names


def applies(name: str, setting: Setting) -> bool:
    """Whether there is something to measure; compiling takes minutes, so it is asked for."""
    if name == "plain PyTorch":
        return setting.variant in BY_HAND
    return name != "-compile" and (setting.passes > 1 or "-group" not in name)


def measure(
    names: list[str], setting: Setting, threads: int, rounds: int
) -> tuple[Times, dict[str, float]]:
    """Times of all, and their first losses, which must be equal."""
    contenders = {name: Contender(name, setting, threads) for name in names}
    try:
        losses = {name: contender() for name, contender in contenders.items()}
        return alternate(contenders, rounds=rounds, warm_up=1), losses
    finally:
        for contender in contenders.values():
            contender.close()


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser(__doc__, rounds=5)
    parser.add_argument("--variant", choices=list(TRAINED), default="DSOD300", help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="images of a pass (%(default)s)")
    parser.add_argument("--passes", type=int, default=1, help="of an iteration (%(default)s)")
    parser.add_argument("--size", type=int, default=300, help="of the images (%(default)s)")
    several = f"some of {', '.join(CONTENDERS)}, separated by ',' (all that apply)"
    parser.add_argument("--ways", type=ways, help=several)
    parser.add_argument("--serve", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    setting = Setting(args.variant, args.batch, args.passes, args.size)
    if args.serve:
        serve(args.serve, setting)
        return 0
    names = args.ways or [name for name in CONTENDERS if applies(name, setting)]
    times, losses = measure(names, setting, args.threads, args.rounds)
    print(times.table(names[0], unit="s"))
    print("\nfirst losses:", ", ".join(f"{name} {loss:.5f}" for name, loss in losses.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
