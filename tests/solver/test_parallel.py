"""Two processes that train together against one that sees both batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from caffe_ssd.errors import UsageError
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.parallel import (
    Place,
    StoppedByRoot,
    join,
    place_from_environment,
    process_group,
    worker_settings,
)
from tests.solver.nets import FedSolver, blobs, small_settings

STEPS = 3


def test_two_devices_are_worth_two_passes(tmp_path: Path) -> None:
    spawn(_train, args=(str(tmp_path),), nprocs=2)
    root, worker = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = FedSolver(small_settings(iter_size=2))
    alone.step(STEPS)
    want = blobs(alone)
    for i in (0, 1, 5, 6):  # all but BatchNorm's statistics
        torch.testing.assert_close(root["blobs"][i], want[i])
        torch.testing.assert_close(root["blobs"][i], worker["blobs"][i])
    # Statistics are the root's alone: a factor for its own batches, not for both devices'.
    factor: float = sum(0.999**i for i in range(STEPS))
    torch.testing.assert_close(root["blobs"][4], torch.tensor([factor]))
    assert worker["stopped"]
    assert (root["iter"], worker["iter"]) == (STEPS, STEPS)


def _train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = Place(rank=rank, world_size=2, local_rank=rank, address=f"file://{folder}/meet")
    param = small_settings()
    if rank > 0:
        param = worker_settings(param, rank)  # another seed: the root's blobs must win
    solver = FedSolver(param)
    solver.first, solver.stride = rank, 2
    stopped = False
    with process_group(place, torch.device("cpu")):
        stop_the_others = join(solver, place)
        solver.step(STEPS)
        if rank == 0:
            stop_the_others()
        else:
            try:
                solver.step(1)
            except StoppedByRoot:
                stopped = True
    result = {"blobs": blobs(solver), "iter": solver.iter, "stopped": stopped}
    torch.save(result, Path(folder, f"{rank}.pt"))


def test_workers_only_train() -> None:
    param = small_settings(
        "test_iter: 2 test_interval: 5 display: 3 snapshot: 4 "
        'snapshot_prefix: "s" test_net_param { name: "t" }',
        snapshot_after_train=True,
        random_seed=7,
    )
    before = param.SerializeToString()
    worker = worker_settings(param, 2)
    assert param.SerializeToString() == before
    assert (worker.display, worker.snapshot, worker.test_interval) == (0, 0, 0)
    assert not worker.snapshot_after_train
    assert not worker.test_iter
    assert not worker.test_net_param
    assert worker.random_seed == 9
    assert worker_settings(SolverParameter(), 2).random_seed == -1


def test_place_from_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert place_from_environment() is None
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    place = place_from_environment()
    assert place == Place(rank=5, world_size=8, local_rank=1)
    assert not place.is_root
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="must be numbers"):
        place_from_environment()
