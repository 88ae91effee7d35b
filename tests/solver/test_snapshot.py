"""Solver states: the reference's files, round trips, and what is no state."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caffe_ssd.errors import FileError, ProtoError
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverState
from caffe_ssd.solver.policies import FLT_MAX, ScheduleState
from caffe_ssd.solver.snapshot import SavedState, read_state, write_state
from tests.support.golden import GOLDEN

RECORDED = GOLDEN / "logs" / "classification" / "snapshots"


def example() -> SavedState:
    random = np.random.RandomState(1)
    return SavedState(
        iteration=120,
        learned_net="out/net_iter_120.caffemodel",
        history=[random.randn(2, 3, 1, 4).astype(np.float32), random.randn(5).astype(np.float32)],
        schedule=ScheduleState(current_step=2, minimum_loss=0.25, iter_last_event=99),
    )


@pytest.mark.parametrize("name", ["s_iter_120.solverstate", "s_iter_120.solverstate.h5"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    state = example()
    write_state(tmp_path / name, state)
    back = read_state(tmp_path / name)
    assert (back.iteration, back.learned_net) == (state.iteration, state.learned_net)
    assert back.schedule == state.schedule
    for mine, theirs in zip(back.history, state.history, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_more_than_ten_blobs_keep_their_order(tmp_path: Path) -> None:
    history = [np.full(1, i, np.float32) for i in range(12)]
    path = tmp_path / "s.solverstate.h5"
    write_state(path, SavedState(iteration=1, learned_net="", history=history))
    assert [blob.item() for blob in read_state(path).history] == list(range(12))


@pytest.mark.parametrize(
    ("name", "learned", "count"),
    [
        ("cls_iter_30.solverstate", "cls_iter_30.caffemodel", 4),
        ("cls_adam_iter_30.solverstate", "cls_adam_iter_30.caffemodel", 8),
        ("cls_h5_iter_30.solverstate.h5", "cls_h5_iter_30.caffemodel.h5", 4),
    ],
)
def test_reads_the_reference(name: str, learned: str, count: int) -> None:
    state = read_state(RECORDED / name)
    assert (state.iteration, state.learned_net, len(state.history)) == (30, learned, count)
    assert state.history[0].shape == (4, 1, 3, 3)
    assert state.schedule.minimum_loss == FLT_MAX


def test_writes_what_the_reference_writes(tmp_path: Path) -> None:
    name = "cls_adam_iter_30.solverstate"
    write_state(tmp_path / name, read_state(RECORDED / name))
    assert (tmp_path / name).read_bytes() == (RECORDED / name).read_bytes()


def test_writes_the_reference_hdf5_layout(tmp_path: Path) -> None:
    name = "cls_h5_iter_30.solverstate.h5"
    write_state(tmp_path / name, read_state(RECORDED / name))
    with h5py.File(tmp_path / name) as mine, h5py.File(RECORDED / name) as theirs:
        assert sorted(mine) == sorted(theirs)
        for key in theirs:
            if key != "history":
                assert mine[key].dtype == theirs[key].dtype
                assert mine[key].shape == theirs[key].shape
                assert mine[key][()] == theirs[key][()]


def test_hdf5_state_of_another_fork_gets_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.solverstate.h5"
    write_state(path, example())
    with h5py.File(path, "a") as file:
        del file["minimum_loss"], file["iter_last_event"]
    assert read_state(path).schedule == ScheduleState(current_step=2)


def test_refuses_what_is_no_state(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.solverstate: No such file"):
        read_state(tmp_path / "none.solverstate")
    with pytest.raises(FileError, match=r"none\.h5: No such file"):
        read_state(tmp_path / "none.h5")
    path = tmp_path / "a.solverstate"
    path.write_bytes(SolverState(learned_net="x").SerializeToString())
    with pytest.raises(ProtoError, match="is no solver state: it holds no iteration"):
        read_state(path)
    path = tmp_path / "a.solverstate.h5"
    path.write_bytes(NetParameter(name="x").SerializeToString())
    with pytest.raises(ProtoError, match="not an HDF5 file, or damaged"):
        read_state(path)
    with h5py.File(path, "w") as file:
        file["data"] = 1
    with pytest.raises(ProtoError, match=r"is no HDF5 solver state: .*iter"):
        read_state(path)
