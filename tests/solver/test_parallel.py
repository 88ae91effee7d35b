"""Two processes that train together against one that sees both batches."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from caffe_ssd.devices import choose_devices, default_workers
from caffe_ssd.errors import SolverError, UsageError
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver import parallel
from caffe_ssd.solver.agreement import compare, facts_of
from caffe_ssd.solver.meeting import meeting_store
from caffe_ssd.solver.parallel import (
    Place,
    StoppedByRoot,
    device_of,
    join,
    place_from_environment,
    process_group,
    worker_settings,
)
from caffe_ssd.solver.reduction import Reduction, broadcast
from caffe_ssd.solver.solver import Solver
from tests.data.databases import annotated, datum, picture, write_lmdb
from tests.solver.nets import FedSolver, blobs, small_settings

STEPS = 3


@pytest.mark.parametrize("iter_size", [1, 2])
def test_two_devices_are_worth_twice_the_passes(tmp_path: Path, iter_size: int) -> None:
    spawn(_train, args=(str(tmp_path), iter_size), nprocs=2)
    root, worker = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = FedSolver(small_settings(iter_size=2 * iter_size))
    alone.step(STEPS)
    want = blobs(alone)
    for i in (0, 1, 5, 6):  # all but BatchNorm's statistics
        torch.testing.assert_close(root["blobs"][i], want[i])
        assert torch.equal(root["blobs"][i], worker["blobs"][i])
    # Statistics are the root's alone: a factor for its own batches, not for both devices'.
    factor: float = sum(0.999**i for i in range(STEPS * iter_size))
    torch.testing.assert_close(root["blobs"][4], torch.tensor([factor]))
    assert worker["stopped"]
    assert (root["iter"], worker["iter"]) == (STEPS, STEPS)
    # All blobs once, then only BatchNorm's: 3 + 3 + 1.
    everything = sum(blob.numel() for blob in alone_blobs(alone))
    assert root["broadcast"] == [everything, *[7] * (STEPS - 1)]


def alone_blobs(solver: Solver) -> list[torch.Tensor]:
    return [entry.blob for entry in solver.net.learnable]


def _train(rank: int, folder: str, iter_size: int) -> None:
    torch.set_num_threads(1)
    place = Place(rank=rank, world_size=2, local_rank=rank, address=f"file://{folder}/meet")
    param = small_settings(iter_size=iter_size)
    if rank > 0:
        param = worker_settings(param, rank)  # another seed: the root's blobs must win
    solver = FedSolver(param)
    solver.first, solver.stride = rank, 2
    stopped = False
    sizes: list[int] = []

    def note(tensors: list[torch.Tensor]) -> None:
        sizes.append(sum(tensor.numel() for tensor in tensors))
        broadcast(tensors)

    small = partial(Reduction, bucket_bytes=16)
    with (
        process_group(place, torch.device("cpu")),
        patch.object(parallel, "Reduction", small),
        patch.object(parallel, "broadcast", note),
    ):
        stop_the_others = join(solver, place)
        solver.step(STEPS)
        if rank == 0:
            stop_the_others()
        else:
            try:
                solver.step(1)
            except StoppedByRoot:
                stopped = True
    result = {"blobs": blobs(solver), "iter": solver.iter, "stopped": stopped, "broadcast": sizes}
    torch.save(result, Path(folder, f"{rank}.pt"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"random_seed": 9, "display": 2}, ""),
        ({"base_lr": 0.2}, "rank 1, compared with rank 0: another net or other settings"),
        ({"max_iter": 7}, "rank 1, compared with rank 0: another net or other settings"),
    ],
)
def test_all_must_have_the_same_settings(fields: dict[str, float], message: str) -> None:
    facts = [facts_of(FedSolver(small_settings(**each))) for each in ({}, fields, {})]
    with pytest.raises(SolverError, match=message) if message else nullcontext():
        compare(facts)


def test_all_must_go_on_from_the_same_snapshot() -> None:
    here, there = FedSolver(small_settings()), FedSolver(small_settings())
    there.updater.history[0].view(-1)[0] += 1
    with pytest.raises(SolverError, match="rank 1, compared with rank 0: another history"):
        compare([facts_of(here), facts_of(there)])
    there.iter = 2
    with pytest.raises(SolverError, match=r"begin at different iterations, \[0, 2\] by rank"):
        compare([facts_of(here), facts_of(there)])


def test_all_must_read_the_same_records(tmp_path: Path) -> None:
    """A machine with a part of the database would read a part of that."""
    pictures = [annotated(datum(picture())) for _ in range(3)]
    parts = {}
    for count in (2, 3):
        source = write_lmdb(tmp_path / str(count), pictures[:count])
        data = f"""layer {{ name: "d" type: "AnnotatedData" top: "data" top: "label"
            data_param {{ source: "{source}" batch_size: 2 backend: LMDB }} }}"""
        param = small_settings()
        param.net_param.CopyFrom(parse_text(data, NetParameter(name="data")))
        parts[count] = facts_of(Solver(param))
    compare([parts[3], parts[3]])
    parts[2][1] = parts[3][1]  # the same name on every machine
    with pytest.raises(SolverError, match="rank 1, 2, compared with rank 0: other records"):
        compare([parts[3], parts[2], parts[2]])


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    solver = SolverParameter(device_id=1)

    def device(local_rank: int, gpu: str = "") -> torch.device:
        place = Place(rank=9, world_size=16, local_rank=local_rank)
        return device_of(place, choose_devices(gpu, solver, alone=False))

    assert [device(rank).index for rank in range(4)] == [0, 1, 2, 3]
    assert [device(rank, "2,0").index for rank in range(2)] == [2, 0]
    with pytest.raises(UsageError, match=r"a process number 2 .* there are 2 GPUs"):
        device(2, "2,0")
    solver.solver_mode = SolverParameter.CPU
    assert device(7).type == "cpu"


def test_every_attempt_meets_where_the_dead_do_not_answer(tmp_path: Path) -> None:
    """The first attempt lost rank 1 before it came, the second all of them at some time."""
    address = f"file://{tmp_path}/store"
    with pytest.raises(RuntimeError, match="rank 1 did not come"):
        _meet(address, [0, 2], patience_s=1)
    for attempt in ("second", "third"):
        stores = _meet(address, [0, 1, 2], patience_s=60)
        assert not stores[0].check(["word"])
        stores[0].set("word", attempt)
        assert [store.get("word") for store in stores] == [attempt.encode()] * 3


def _meet(address: str, ranks: list[int], patience_s: float) -> list[dist.Store]:
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(meeting_store, address, rank, 3, patience_s) for rank in ranks]
        return [job.result() for job in jobs]


def test_the_root_asks_for_patience_while_it_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of 40 minutes where everybody waits for 10: there is a word every 2.5 to 3."""
    now = 0.0
    monkeypatch.setattr(parallel.time, "monotonic", lambda: now)
    told: list[float] = []
    solver = FedSolver(small_settings())
    hold = parallel._Hold(solver, lambda word: told.append(now) or word, patience_s=600)
    for done in range(80):
        now += 30
        hold.on_test_batch(0, done + 1, 80)
    assert told[0] <= 180
    assert all(after - before <= 180 for before, after in pairwise([*told, 80 * 30.0]))
    told.clear()
    solver.iter = solver.param.max_iter  # the others have ended
    now += 3000
    hold.on_test_batch(0, 1, 1)
    assert not told


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
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    place = place_from_environment()
    assert place == Place(rank=5, world_size=8, local_rank=1)
    assert not place.is_root
    assert place.num_local == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    place = place_from_environment()
    assert place is not None
    assert place.num_local == 2
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="must be numbers"):
        place_from_environment()


def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cores but one prepare data for GPUs, half of them for the CPU, which needs the others."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [default_workers(cuda), default_workers(cuda, 4)] == [31, 7]
    assert [default_workers(cpu), default_workers(cpu, 4)] == [16, 4]
