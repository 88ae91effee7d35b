"""What the watch for NaN costs: the same training iteration with and without it, in turn.

example: python -m benchmarks.watchdog --rounds 15
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
from caffe.models.dsod_recipes import DSOD
from caffe.models.recipe import make_nets
from google.protobuf import text_format

from benchmarks.nets import fed_by_hand, images, label_blob, objects
from benchmarks.pairs import alternate
from benchmarks.training import SOLVER, FedSolver, Setting, make_solver
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.upgrade import upgrade_net

DEMO_BATCH = 16
DEMO_SIZE = 96


def demo_solver() -> FedSolver:
    """The demo's small DSOD, fed with random pictures and objects."""
    made = make_nets(DSOD.recipe("VOC0712", "tiny"), "")["train"]
    train = upgrade_net(NetParameter.FromString(made.SerializeToString()))
    param = text_format.Parse(SOLVER, SolverParameter())
    param.train_net_param.CopyFrom(fed_by_hand(train, batch=DEMO_BATCH, size=DEMO_SIZE))
    inputs = {
        "data": images(DEMO_BATCH, size=DEMO_SIZE),
        "label": label_blob(objects(DEMO_BATCH)),
    }
    return FedSolver(param, inputs)


CASES: dict[str, Callable[[], FedSolver]] = {
    f"the demo's net, batch {DEMO_BATCH}": demo_solver,
    "DSOD300, batch 4": lambda: make_solver(Setting(batch=4)),
}


def row(name: str, rounds: int) -> str:
    """One line of the table."""
    watched, plain = CASES[name](), CASES[name]()
    plain.watchdog.effect = "ignore"
    times = alternate(
        {"watched": lambda: watched.step(1), "plain": lambda: plain.step(1)}, rounds=rounds
    )
    pairs = zip(times.seconds["watched"], times.seconds["plain"], strict=True)
    cost = float(np.median([a / b - 1 for a, b in pairs]))
    cells = f"{times.median('plain') * 1e3:.1f} | {times.median('watched') * 1e3:.1f}"
    return f"| {name} | {cells} | {100 * cost:+.2f} % |"


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="iterations of each (%(default)s)")
    args = parser.parse_args()
    print("| iteration | plain ms | watched ms | cost |\n|---|---|---|---|")
    for name in CASES:
        print(row(name, args.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
