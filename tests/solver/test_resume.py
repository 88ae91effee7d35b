"""What belongs together is resumed, whole; the rest is refused, every difference named."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_ssd.errors import (
    CaffeError,
    DivergedError,
    FileError,
    ProtoError,
    SolverError,
    WeightsError,
)
from caffe_ssd.proto.binary import read_binary, write_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter, SolverState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.resume import newest_snapshot
from tests.solver.nets import NET, FedSolver, small_settings


def trained(
    folder: Path, text: str = "", steps: int = 2, **fields: object
) -> tuple[FedSolver, str]:
    """A solver after some steps, and the state it wrote."""
    solver = FedSolver(small_settings(text, snapshot_prefix=str(folder / "s"), **fields))
    solver.step(steps)
    return solver, solver.snapshot()[1]


def content(solver: FedSolver) -> list[Tensor]:
    """Everything that a restore changes."""
    blobs = [entry.blob.detach() for entry in solver.net.learnable]
    return [tensor.clone() for tensor in (*blobs, *solver.updater.history)]


def assert_refused(solver: FedSolver, state: str, error: type[CaffeError], match: str) -> None:
    """A restore fails and leaves the solver as it was."""
    before = content(solver), solver.iter, solver.schedule
    with pytest.raises(error, match=match):
        solver.restore(state)
    torch.testing.assert_close(content(solver), before[0], rtol=0, atol=0)
    assert (solver.iter, solver.schedule) == before[1:]


@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_weights_of_another_run_are_no_pair(tmp_path: Path, format_: str) -> None:
    text = f"snapshot_format: {format_}"
    _, state = trained(tmp_path, text)
    old = Path(state).read_bytes()
    trained(tmp_path, text, base_lr=0.3)
    Path(state).write_bytes(old)  # a crash between the two files leaves this
    solver = FedSolver(small_settings(text))
    assert_refused(solver, state, SolverError, r"does not belong to the weights in .*checksum")


def test_the_weights_with_the_right_checksum_are_taken(tmp_path: Path, monkeypatch) -> None:
    """The state names a file that is another one here; the right one lies beside it."""
    backup = tmp_path / "backup"
    backup.mkdir()
    monkeypatch.chdir(backup)
    solver = FedSolver(small_settings(snapshot_prefix="s"))
    solver.step(1)
    solver.snapshot()
    monkeypatch.chdir(tmp_path)
    other = FedSolver(small_settings(snapshot_prefix="s", base_lr=0.7))
    other.step(1)
    other.snapshot()
    resumed = FedSolver(small_settings())
    resumed.restore("backup/s_iter_1.solverstate")
    torch.testing.assert_close(content(resumed), content(solver), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('name: "bn"', 'name: "norm"', r"layers that are gone: 'bn'\n.*are new: 'norm'"),
        ("kernel_size: 2", "kernel_size: 2 stride: 2", r"'conv': convolution_param.stride was"),
        ('top: "bn" }', 'top: "bn" batch_norm_param { eps: 2 } }', ""),
        ("lr_mult: 2", "lr_mult: 3", ""),
    ],
)
def test_another_net(tmp_path: Path, old: str, new: str, match: str) -> None:
    """Another layer, or the same one computing something else; how it learns is a setting."""
    _, state = trained(tmp_path)
    solver = FedSolver(_with_net(old, new))
    if match:
        assert_refused(solver, state, SolverError, f"belongs to another net:\n  .*{match}")
    else:
        solver.restore(state)
        with pytest.raises(SolverError, match=r"layer '(bn|ip)': "):
            solver.restore(state, strict=True)


def _with_net(old: str, new: str) -> SolverParameter:
    assert old in NET
    param = small_settings()
    param.net_param.CopyFrom(parse_text(NET.replace(old, new), NetParameter()))
    return param


def test_changed_settings_are_warned_of_or_refused(tmp_path: Path, caplog) -> None:
    _, state = trained(tmp_path)
    text = "iter_size: 2 display: 1 solver_mode: CPU"
    solver = FedSolver(small_settings(text, base_lr=0.01, max_iter=900))
    with pytest.raises(SolverError, match="is not resumed by itself") as error:
        solver.restore(state, strict=True)
    lines = str(error.value).splitlines()[1:-1]
    assert lines == ["  base_lr was 0.1, is 0.01", "  iter_size was 1, is 2"]
    assert "name this file as the snapshot" in str(error.value)
    assert solver.iter == 0
    with caplog.at_level(logging.WARNING, "caffe_ssd"):
        solver.restore(state)
    assert "was written with other settings:\n  base_lr was 0.1, is 0.01" in caplog.text
    assert solver.iter == 2


def test_options_and_devices_are_settings(tmp_path: Path) -> None:
    solver = FedSolver(small_settings(snapshot_prefix=str(tmp_path / "s")))
    solver.options = ("sync_bn",)
    _, state = solver.snapshot()
    solver.options = ("bf16",)
    solver.runtime = type(solver.runtime)(world_size=4)
    with pytest.raises(SolverError) as error:
        solver.restore(state, strict=True)
    for text in ("devices: 1 then, 4 now", "-sync_bn was given, is not", "-bf16 was not given"):
        assert text in str(error.value)


def test_a_poly_schedule_depends_on_its_end(tmp_path: Path) -> None:
    _, state = trained(tmp_path, "power: 1", lr_policy="poly")
    solver = FedSolver(small_settings("power: 1", lr_policy="poly", max_iter=60))
    with pytest.raises(SolverError, match="max_iter was 6, is 60"):
        solver.restore(state, strict=True)


def test_a_state_of_the_original_is_taken_with_a_note(tmp_path: Path, caplog) -> None:
    whole, state = trained(tmp_path)
    message = read_binary(state, SolverState())
    message.ClearField("origin")
    write_binary(state, message)
    solver = FedSolver(small_settings())
    with caplog.at_level(logging.INFO, "caffe_ssd"):
        solver.restore(state, strict=True)
    assert "does not say what net and settings it belongs to" in caplog.text
    torch.testing.assert_close(content(solver), content(whole), rtol=0, atol=0)


def test_restore_is_all_or_nothing(tmp_path: Path) -> None:
    _, state = trained(tmp_path)
    model = Path(state.replace("solverstate", "caffemodel"))
    message = read_binary(state, SolverState())
    message.ClearField("origin")
    write_binary(state, message)
    data = model.read_bytes()
    model.write_bytes(data[: len(data) // 2])
    assert_refused(FedSolver(small_settings()), state, ProtoError, r"s_iter_2\.caffemodel: not a")
    model.unlink()
    assert_refused(FedSolver(small_settings()), state, FileError, r"s_iter_2\.solverstate needs it")


def test_what_is_not_finite_is_neither_written_nor_read(tmp_path: Path) -> None:
    solver, state = trained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    solver.iter = 3
    solver.updater.history[5][0] = float("inf")
    with pytest.raises(DivergedError, match=r"iteration 3: the history of blob 0 of layer 'ip'"):
        solver.snapshot()
    with torch.no_grad():
        solver.net.learnable[1].blob[1] = float("nan")
    with pytest.raises(DivergedError, match=r"no snapshot .* blob 1 of layer 'conv'"):
        solver.snapshot()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    message = read_binary(state, SolverState())
    message.history[2].data[0] = float("nan")
    write_binary(state, message)
    assert_refused(FedSolver(small_settings()), state, ProtoError, "history blob 2 .* not finite")


def test_weights_of_a_state_must_be_finite(tmp_path: Path) -> None:
    _, state = trained(tmp_path)
    message = read_binary(state, SolverState())
    message.ClearField("origin")
    write_binary(state, message)
    model = state.replace("solverstate", "caffemodel")
    net = read_binary(model, NetParameter())
    net.layer[2].blobs[0].data[3] = float("nan")
    write_binary(model, net)
    assert_refused(FedSolver(small_settings()), state, WeightsError, "not finite in layer conv")


def test_the_newest_whole_snapshot(tmp_path: Path, caplog) -> None:
    prefix = str(tmp_path / "s")
    assert newest_snapshot(prefix) is None
    solver, first = trained(tmp_path, steps=2)
    paths = [Path(first)]
    for _ in range(2):
        solver.step(5)
        paths.append(Path(solver.snapshot()[1]))
    (tmp_path / "s_iter_99.solverstate.tmp").touch()
    (tmp_path / "st_iter_99.solverstate").touch()
    assert newest_snapshot(prefix) == paths[2]
    paths[2].write_bytes(paths[2].read_bytes()[:-5])
    paths[1].with_suffix(".caffemodel").unlink()
    with caplog.at_level(logging.WARNING, "caffe_ssd"):
        assert newest_snapshot(prefix) == paths[0]
    assert caplog.text.count("taking the one before") == 2
    paths[0].write_bytes(b"")
    with pytest.raises(SolverError, match="none of the 3 snapshots"):
        newest_snapshot(prefix)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("iter", "many", "iter is not one number"),
        ("iter", np.array([np.nan]), "iter must be a whole number"),
        ("iter", np.array([-5]), "its iteration is -5"),
        ("iter", np.array([1, 2]), "iter is not one number"),
        ("learned_net", np.zeros((10, 10)), "learned_net is not one text"),
        ("history", 1.0, "it has no group history"),
        ("history/0", "text", "0 holds object, not numbers"),
        ("history/1", h5py.ExternalLink("other.h5", "/x"), "is a link to another file, 'other.h5'"),
        ("current_step", h5py.SoftLink("/nowhere"), "no dataset current_step"),
        ("origin", np.frombuffer(b"\xff\xff\xff", np.uint8), "origin is damaged"),
    ],
)
def test_damaged_hdf5_states(tmp_path: Path, key: str, value: object, match: str) -> None:
    _, state = trained(tmp_path, "snapshot_format: HDF5")
    with h5py.File(state, "a") as file:
        del file[key]
        file[key] = value
    solver = FedSolver(small_settings("snapshot_format: HDF5"))
    assert_refused(solver, state, ProtoError, match)
