"""pycaffe's solvers: steps, callbacks, snapshots, types."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest

from tests.pycaffe.tiny import REGRESSION, write_solver

TYPES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


def feed(solver: caffe.solvers.Solver) -> None:
    rng = np.random.default_rng(0)
    solver.net.blobs["x"].data[...] = rng.normal(size=(4, 3))
    solver.net.blobs["y"].data[...] = rng.normal(size=(4, 2))


def test_steps_reduce_the_loss_and_count(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path))
    feed(solver)
    losses = []
    for _ in range(5):
        solver.step(2)
        losses.append(float(solver.net.blobs["loss"].data))
    assert solver.iter == 10
    assert losses[-1] < losses[0]


def test_one_plain_step_is_the_formula(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path))
    feed(solver)
    weight = solver.net.params["fc"][0].data
    before = weight.copy()
    x, y = solver.net.blobs["x"].data, solver.net.blobs["y"].data
    gradient = (x @ before.T - y).T @ x / 4
    solver.step(1)
    np.testing.assert_allclose(weight, before - np.float32(0.1) * gradient, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        solver.net.params["fc"][0].diff, np.float32(0.1) * gradient, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("kind", TYPES)
def test_type_chooses_the_class(kind: str, tmp_path: Path) -> None:
    extra = f'type: "{kind}" momentum: {0 if kind in ("AdaGrad", "RMSProp") else 0.9} delta: 1e-4'
    path = write_solver(tmp_path)
    text = Path(path).read_text().replace("momentum: 0.9", "")
    Path(path).write_text(text + extra)
    solver = caffe.get_solver(path)
    assert type(solver) is getattr(caffe, f"{kind}Solver")
    feed(solver)
    solver.step(1)
    wrong = caffe.AdamSolver if kind != "Adam" else caffe.SGDSolver
    with pytest.raises(RuntimeError, match=rf"type is '{kind}', but this is a {wrong.type_name}"):
        wrong(path)


def test_no_type_is_sgd_and_unknown_types_are_refused(tmp_path: Path) -> None:
    assert type(caffe.get_solver(write_solver(tmp_path))) is caffe.SGDSolver
    with pytest.raises(RuntimeError, match=r"unknown type 'Magic'; allowed: SGD, Nesterov"):
        caffe.get_solver(write_solver(tmp_path, extra='type: "Magic"'))


def test_solve_stops_at_max_iter_and_snapshots(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path))
    feed(solver)
    solver.solve()
    assert solver.iter == 6
    assert (tmp_path / "tiny_iter_6.caffemodel").is_file()


def test_solve_holds_its_prefix(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path))
    feed(solver)
    held = []
    solver.add_callback(lambda: held.append((tmp_path / ".tiny.lock").exists()), lambda: None)
    solver.solve()
    assert held == [True] * 6
    assert not (tmp_path / ".tiny.lock").exists()


@pytest.mark.parametrize("extra", ["", "snapshot_format: HDF5"])
def test_snapshot_and_restore_continue_exactly(extra: str, tmp_path: Path) -> None:
    path = write_solver(tmp_path, extra=extra)
    solver = caffe.SGDSolver(path)
    feed(solver)
    solver.step(3)
    solver.snapshot()
    solver.step(3)
    other = caffe.SGDSolver(path)
    feed(other)
    weight = other.net.params["fc"][0].data
    suffix = ".h5" if extra else ""
    other.restore(str(tmp_path / f"tiny_iter_3.solverstate{suffix}"))
    assert other.iter == 3
    other.step(3)
    np.testing.assert_array_equal(weight, solver.net.params["fc"][0].data)


def test_solve_from_a_state(tmp_path: Path) -> None:
    path = write_solver(tmp_path)
    solver = caffe.SGDSolver(path)
    solver.step(4)
    solver.snapshot()
    other = caffe.SGDSolver(path)
    other.solve(str(tmp_path / "tiny_iter_4.solverstate"))
    assert other.iter == 6


def test_callbacks_surround_the_passes(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path))
    feed(solver)
    seen: list[str] = []

    def on_start() -> None:
        assert not solver.net.params["fc"][0].diff.any()
        seen.append("start")

    def on_gradients_ready() -> None:
        assert solver.net.params["fc"][0].diff.any()
        solver.net.params["fc"][0].diff[...] = 0
        seen.append("gradients")

    solver.add_callback(on_start, on_gradients_ready)
    before = solver.net.params["fc"][0].data.copy()
    solver.step(2)
    assert seen == ["start", "gradients"] * 2
    np.testing.assert_array_equal(solver.net.params["fc"][0].data, before)


def test_test_nets_share_the_weights(tmp_path: Path) -> None:
    solver = caffe.SGDSolver(write_solver(tmp_path, REGRESSION, "test_iter: 1 test_interval: 100"))
    (test_net,) = solver.test_nets
    solver.net.params["fc"][0].data[...] = 4
    assert (test_net.params["fc"][0].data == 4).all()
    test_net.blobs["x"].data[...] = 1
    test_net.forward()
    assert (test_net.blobs["fc"].data == 12).all()
