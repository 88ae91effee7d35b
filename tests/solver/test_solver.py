"""The loop: what happens in which order, and that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from caffe_ssd.errors import FileError, ProtoError, SolverError
from caffe_ssd.proto.text import read_solver
from caffe_ssd.solver import Action, Callback, Observer
from caffe_ssd.solver.solver import Solver
from tests.solver.nets import FedSolver, batch, blobs, small_settings
from tests.support.recorded_cases import Case, case_id, case_paths, write_prototxt

TESTS = "test_iter: 2 test_interval: 3"


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split("\n")[0] for record in caplog.records]


def test_learns() -> None:
    solver = FedSolver(small_settings(max_iter=1))
    solver.first, solver.stride = 5, 0  # the same batch again and again
    before = solver.forward_backward(solver.net).loss.item()
    solver.step(30)
    assert solver.forward_backward(solver.net).loss.item() < before / 2
    assert solver.iter == 30


def test_one_step_by_hand() -> None:
    solver = FedSolver(small_settings(momentum=0.5))
    before = blobs(solver)
    solver.net(batch(0)).loss.backward()
    gradients = [entry.blob.grad for entry in solver.net.learnable]
    statistics = blobs(solver)[2:5]
    solver.net.clear_diffs()
    for entry, value in zip(solver.net.learnable, before, strict=True):
        entry.blob.data.copy_(value)
    solver.step(1)
    after = blobs(solver)
    weight, bias = gradients[0], gradients[6]
    torch.testing.assert_close(after[0], before[0] - 0.1 * (weight + 0.01 * before[0]))
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=0)  # lr_mult 0
    for mine, theirs in zip(after[2:5], statistics, strict=True):  # BatchNorm's own
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(after[6], before[6] - 0.2 * bias)  # lr_mult 2, no decay


def test_order_of_a_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prefix = str(tmp_path / "s")
    param = small_settings(
        TESTS, snapshot=4, snapshot_prefix=prefix, display=2, snapshot_after_train=True
    )
    solver = FedSolver(param)
    solver.callbacks.append(
        Callback(
            on_start=lambda: logging.getLogger("caffe_ssd").info("start"),
            on_gradients_ready=lambda: logging.getLogger("caffe_ssd").info("gradients"),
        )
    )
    with caplog.at_level(logging.INFO, "caffe_ssd"):
        solver.solve()
    short = []
    for line in messages(caplog):
        for name in ("Testing", "loss =", "lr =", "start", "gradients", "Snapshotting to", "Done"):
            if name in line and "output" not in line:
                short.append(name)
    iteration = ["start", "gradients"]
    shown = ["start", "loss =", "gradients", "lr ="]
    want = ["Testing", *shown, *iteration, *shown, "Testing", *iteration, "Snapshotting to"]
    want += [*shown, *iteration, "Snapshotting to", "loss =", "Testing", "Done"]
    assert short == want
    assert {path.name for path in tmp_path.iterdir()} == {
        f"s_iter_{i}.{kind}" for i in (4, 6) for kind in ("caffemodel", "solverstate")
    }


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("format_", ["BINARYPROTO", "HDF5"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, kind: str, format_: str) -> None:
    text = f'type: "{kind}" snapshot_format: {format_}'
    param = small_settings(text, snapshot_prefix=str(tmp_path / "s"))
    whole = FedSolver(param)
    whole.step(3)
    _, state = whole.snapshot()
    whole.step(3)
    resumed = FedSolver(param)
    resumed.passes = 3
    resumed.solve(state)
    assert resumed.iter == whole.iter == 6
    for mine, theirs in zip(blobs(resumed), blobs(whole), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_weights_are_found_beside_the_state(tmp_path: Path) -> None:
    solver = FedSolver(small_settings(snapshot_prefix=str(tmp_path / "s")))
    solver.step(1)
    solver.snapshot()
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    other = FedSolver(small_settings())
    other.restore(moved / "s_iter_1.solverstate")
    torch.testing.assert_close(blobs(other), blobs(solver))


def test_restore_refuses_another_solver_type(tmp_path: Path) -> None:
    solver = FedSolver(small_settings(snapshot_prefix=str(tmp_path / "s")))
    _, state = solver.snapshot()
    adam = FedSolver(small_settings('type: "Adam"'))
    before = blobs(adam)
    with pytest.raises(ProtoError, match=r"Incorrect length of history blobs. It holds 7, .* 14"):
        adam.restore(state)
    torch.testing.assert_close(blobs(adam), before)


def test_iter_size_averages() -> None:
    """Two passes over the same batch are worth one; over different ones, their mean."""
    one, two = FedSolver(small_settings()), FedSolver(small_settings(iter_size=2))
    two.stride = one.stride = 0
    one.step(1)
    two.step(1)
    for i in (0, 5, 6):
        torch.testing.assert_close(blobs(two)[i], blobs(one)[i])


def test_stop_snapshots_and_leaves(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prefix = str(tmp_path / "s")
    solver = FedSolver(small_settings(snapshot_prefix=prefix, snapshot_after_train=True))
    actions = iter([Action.NONE, Action.SNAPSHOT, Action.STOP])
    solver.action_source = lambda: next(actions)
    with caplog.at_level(logging.INFO, "caffe_ssd"):
        solver.solve()
    assert solver.iter == 3
    assert sorted(path.name for path in tmp_path.glob("*.solverstate")) == [
        "s_iter_2.solverstate",
        "s_iter_3.solverstate",
    ]
    assert messages(caplog)[-1] == "Optimization stopped early."


def test_stop_interrupts_a_test(caplog: pytest.LogCaptureFixture) -> None:
    solver = FedSolver(small_settings(TESTS))
    solver.action_source = lambda: Action.STOP
    with caplog.at_level(logging.INFO, "caffe_ssd"):
        solver.solve()
    assert solver.iter == 0
    assert messages(caplog)[-2:] == ["Test interrupted.", "Optimization stopped early."]


def test_tests_see_the_trained_blobs_and_their_statistics() -> None:
    solver = FedSolver(small_settings(TESTS))
    (test_net,) = solver.test_nets
    solver.step(2)
    mine = dict(test_net.layer_blobs())
    for name, theirs in solver.net.layer_blobs():
        assert [id(b) for b in mine[name]] == [id(b) for b in theirs]
    before = blobs(solver)
    (result,) = solver.test_all()
    torch.testing.assert_close(blobs(solver), before)
    assert list(result.outputs) == ["accuracy", "loss"]
    assert result.loss == pytest.approx(result.outputs["loss"][0])


def test_observers_hear_what_happens() -> None:
    heard: list[str] = []

    class Listener(Observer):
        def on_iteration(self, iteration: int) -> None:
            heard.append(f"done {iteration}")

        def on_display(self, iteration: int, loss: float, rate: float) -> None:
            heard.append(f"shown {iteration} {rate:g}")

        def on_test_batch(self, index: int, done: int, total: int) -> None:
            heard.append(f"pass {done}/{total}")

        def on_test(self, result: object) -> None:
            heard.append("tested")

    solver = FedSolver(small_settings(TESTS, display=2))
    solver.observers.append(Listener())
    solver.step(2)
    want = ["pass 1/2", "pass 2/2", "tested", "shown 0 0.1", "done 1", "done 2"]
    assert heard == want


def test_updates_can_be_kept() -> None:
    solver = FedSolver(small_settings())
    solver.store_updates = True
    before = blobs(solver)
    solver.step(1)
    for entry, old in zip(solver.net.learnable, before, strict=True):
        if entry.lr_mult:
            assert entry.blob.grad is not None
            torch.testing.assert_close(entry.blob.detach(), old - entry.blob.grad)


def test_detection_needs_rows_of_five() -> None:
    solver = FedSolver(small_settings(TESTS, eval_type="detection"))
    with pytest.raises(SolverError, match=r"output 'accuracy' is .*Silence"):
        solver.step(1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("average_loss: 0", "average_loss must be at least 1, got 0"),
        ("iter_size: 0", "iter_size must be at least 1, got 0"),
        ('net: "x.prototxt"', "exactly one of net, .*; got net and net_param"),
        ("test_iter: 1", "test_interval must be > 0"),
        ("test_iter: 1 test_interval: 1 test_state {} test_state {}", r"one per test net \(1\)"),
        ("test_iter: 1 test_net_param {} test_net_param {}", "2 test nets want 2 or more, got 1"),
        ('eval_type: "segmentation"', "unknown eval_type 'segmentation'; known: classification"),
        ('eval_type: "detection" ap_version: "12point"', "unknown ap_version '12point'"),
        ("snapshot: 5", "snapshot > 0 needs a snapshot_prefix"),
        ('regularization_type: "L3"', "unknown regularization_type 'L3'"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        FedSolver(small_settings(text)).step(1)


def test_unwritable_prefix_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no/such/s' cannot be written to: .*create the folder"):
        FedSolver(small_settings(snapshot=5, snapshot_prefix=str(tmp_path / "no/such/s")))


# The reference's own runs -------------------------------------------------------------------------

# Those that MemoryData feeds need the arrays of pycaffe (tests/parity/test_cases.py).
RECORDED = [path for path in case_paths("solvers") if "memory_data" not in Case(path)]


class _Recorded(Solver):
    """Fed with a recorded case's inputs; remembers the blob `loss`."""

    feed: dict[str, torch.Tensor]
    loss = 0.0

    def forward_backward(self, net: object) -> object:
        result = self.net(self.feed, keep=["loss"])
        result.loss.backward()
        self.loss = float(result.blobs["loss"].detach())
        return result

    def blob(self, spec: str) -> torch.Tensor:
        layer, index = spec.rsplit(":", 1)
        return dict(self.net.layer_blobs())[layer][int(index)].detach()


def _recorded_solver(case: Case, folder: Path) -> _Recorded:
    write_prototxt(folder, "net.prototxt", str(case.get("net")))
    path = write_prototxt(folder, "solver.prototxt", str(case.get("solver")))
    return _Recorded(read_solver(path))


@pytest.mark.parametrize("path", RECORDED, ids=case_id)
def test_follows_the_reference(path: Path, tmp_path: Path) -> None:
    """With the engine's net and PyTorch's gradients; pycaffe's run layer by layer."""
    case, losses = Case(path), []
    solver = _recorded_solver(case, tmp_path)
    for spec, value in case.of("param0"):
        solver.blob(spec).copy_(torch.from_numpy(value))
    for call in range(len(case.entries["loss"])):
        if call == case.get("snapshot_at"):
            solver.snapshot()
            solver = _recorded_solver(case, tmp_path)
            solver.restore(tmp_path / str(case.get("snapshot_file")))
            for index, _ in case.of("history"):
                case.check(f"history:{index}", solver.updater.history[int(index)])
        solver.feed = {name: torch.from_numpy(values[call]) for name, values in case.of("in")}
        solver.step(int(case.get("step_size", 1)))
        losses.append(solver.loss)
    case.check("loss", losses)
    case.check("iter", solver.iter)
    for spec, _ in case.of("param"):
        case.check(f"param:{spec}", solver.blob(spec))
