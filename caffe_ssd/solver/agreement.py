"""Processes that train together must begin from the same: otherwise they learn nonsense in silence.

Weights are the root's from the first iteration on, but nothing else is. Machines have disks of
their own, and there an older snapshot, another solver file or half a database may lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from caffe_ssd.errors import SolverError
from caffe_ssd.layers.peers import answering
from caffe_ssd.layers.registry import SourceLayer
from caffe_ssd.solver.origin import make_origin
from caffe_ssd.solver.solver import Solver

# What is compared besides the iteration, in the words of the error.
_FACTS = (
    "another net or other settings; all processes need the same files and flags",
    "another history of updates; all processes must resume from copies of one snapshot",
    "other records; every machine needs the whole database, as each process takes its part of it",
)


def check_agreement(solver: Solver, group: dist.ProcessGroup) -> None:
    """Make sure that all processes have the same net, settings, snapshot and records.

    Args:
        solver: this process's, ready to train.
        group: everybody; it can send tensors of the CPU.

    Raises:
        SolverError: they have not; says what differs and where.
        PeerError: a process is gone.
    """
    mine = facts_of(solver)
    found = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    with answering():
        dist.all_gather(found, mine, group=group)
    compare(found)


def facts_of(solver: Solver) -> Tensor:
    """What must be equal, as numbers: the iteration and digests of the `_FACTS`. int64 [4]."""
    facts = (_settings(solver), _history(solver), _records(solver))
    return torch.tensor([solver.iter, *map(_digest, facts)], dtype=torch.int64)


def compare(found: Sequence[Tensor]) -> None:
    """Make sure that the facts of all ranks, in their order, are equal.

    Raises:
        SolverError: they are not.
    """
    iterations, *facts = torch.stack(list(found), 1).tolist()
    if len(set(iterations)) > 1:
        raise SolverError(
            f"the processes begin at different iterations, {iterations} by rank; they must see "
            "the same snapshots"
        )
    for fact, column in zip(_FACTS, facts, strict=True):
        others = [str(rank) for rank, value in enumerate(column) if value != column[0]]
        if others:
            raise SolverError(f"rank {', '.join(others)}, compared with rank 0: {fact}")


def _settings(solver: Solver) -> Iterable[bytes]:
    devices = solver.runtime.world_size
    origin = make_origin(solver.param, solver.net, devices=devices, options=solver.options)
    origin.solver.max_iter = solver.param.max_iter
    origin.solver.ClearField("random_seed")  # every process has its own
    yield origin.SerializeToString(deterministic=True)


def _history(solver: Solver) -> Iterable[bytes]:
    return (blob.tobytes() for blob in solver.updater.saved_history())


def _records(solver: Solver) -> Iterable[bytes]:
    return (layer.identity for layer in solver.net.layers if isinstance(layer, SourceLayer))


def _digest(parts: Iterable[bytes]) -> int:
    """Equal for equal parts; fits an int64."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "big", signed=True)
