"""`caffe train` goes on by itself, with what belongs together, and says when there is no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.files import temporary_name
from caffe_ssd.solver.prefix_lock import prefix_lock

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 4 dim: 3 dim: 5 dim: 6 } shape { dim: 4 dim: 2 }
    data_filler { type: "gaussian" std: 1 } data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 max_iter: 6 snapshot: 2
snapshot_prefix: "s" random_seed: 1 solver_mode: CPU
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    return tmp_path


def change(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def train(capfd: pytest.CaptureFixture[str], *flags: str, status: int = 0) -> str:
    """Run `caffe train`; what it said."""
    assert main(["train", "-solver", "solver.prototxt", *flags]) == status
    return capfd.readouterr().err


def test_auto_starts_goes_on_and_is_finished(capfd: pytest.CaptureFixture[str]) -> None:
    assert "Resuming" not in train(capfd, "-snapshot", "auto")
    said = train(capfd, "-snapshot", "auto")
    assert "Resuming from s_iter_6.solverstate" in said
    assert "This training is finished: s_iter_6.solverstate is at iteration 6" in said
    change("solver.prototxt", "max_iter: 6", "max_iter: 8")
    said = train(capfd, "-snapshot", "auto")
    assert "finished" not in said
    assert Path("s_iter_8.caffemodel").exists()


def test_auto_falls_back_from_a_torn_snapshot(capfd: pytest.CaptureFixture[str]) -> None:
    train(capfd)
    Path("s_iter_6.caffemodel").write_bytes(Path("s_iter_4.caffemodel").read_bytes())
    said = train(capfd, "-snapshot", "auto")
    assert "Cannot resume from s_iter_6.solverstate, taking the one before" in said
    assert "Resuming from s_iter_4.solverstate" in said


def test_auto_refuses_changed_settings(capfd: pytest.CaptureFixture[str]) -> None:
    train(capfd)
    before = {path.name: path.read_bytes() for path in Path().iterdir()}
    change("solver.prototxt", "base_lr: 0.01", "base_lr: 0.02 display: 1")
    said = train(capfd, "-snapshot", "auto", status=1)
    assert "caffe: s_iter_6.solverstate is not resumed by itself:\n  base_lr was 0.01" in said
    Path("solver.prototxt").write_bytes(before["solver.prototxt"])
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


def test_a_state_named_by_hand_goes_on_with_new_settings(capfd) -> None:
    train(capfd)
    change("solver.prototxt", "base_lr: 0.01", "base_lr: 0.02")
    said = train(capfd, "-snapshot", "s_iter_4.solverstate")
    assert "was written with other settings:\n  base_lr was 0.01, is 0.02" in said


def test_another_net_is_refused_either_way(capfd: pytest.CaptureFixture[str]) -> None:
    train(capfd)
    change("net.prototxt", 'type: "EuclideanLoss"', 'type: "SmoothL1Loss"')
    for flag in ("auto", "s_iter_4.solverstate"):
        said = train(capfd, "-snapshot", flag, status=1)
        assert "belongs to another net:\n  layer 'loss': type was 'EuclideanLoss'" in said


def test_weights_of_another_net_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    train(capfd)
    change("net.prototxt", 'name: "ip"', 'name: "fc"')
    said = train(capfd, "-weights", "s_iter_4.caffemodel", status=1)
    assert "fills 0 of 1 learnable layers: the file has ip, the net wants fc. Give" in said
    said = train(capfd, "-weights", "s_iter_4.caffemodel", "-skip_mismatched", status=1)
    assert "the net wants fc. Take weights of this very net, or none." in said


def test_two_trainings_and_what_a_dead_one_left(capfd: pytest.CaptureFixture[str]) -> None:
    left = temporary_name(Path("s_iter_2.caffemodel"))
    dead = left.with_name(left.name.replace(f"-{_pid(left)}-", "-4194305-"))  # above any pid
    for path in (left, dead):
        path.touch()
    said = train(capfd)
    assert f"Removed {dead}, which a killed process left unfinished" in said
    assert left.exists()
    assert not dead.exists()


def _pid(path: Path) -> str:
    return path.name.split("-")[-2]


def test_the_lock_is_free_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    train(capfd)
    assert not Path(".s.lock").exists()
    with prefix_lock("s"):
        pass
