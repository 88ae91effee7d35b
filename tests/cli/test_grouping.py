"""`caffe train -group` and `-as_gpus`: other passes, the same training."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_ssd import devices
from caffe_ssd.cli.main import main
from caffe_ssd.net import Net
from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.blobs import blob_to_array

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "y"
  dummy_data_param { shape { dim: 3 dim: 2 dim: 7 dim: 6 } shape { dim: 3 dim: 4 dim: 3 dim: 2 }
    data_filler { type: "gaussian" std: 2 } data_filler { type: "gaussian" } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "loss" type: "EuclideanLoss" bottom: "conv" bottom: "y" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" momentum: 0.9 iter_size: 4 max_iter: 4
display: 1 snapshot: 2 snapshot_prefix: "s" random_seed: 1 solver_mode: CPU
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)


def train(*flags: str, status: int = 0) -> list[np.ndarray]:
    """Run `caffe train`; the weights it ends with."""
    assert main(["train", "-solver", "solver.prototxt", *flags]) == status
    net = read_weights("s_iter_4.caffemodel")
    return [blob_to_array(blob) for layer in net.layer for blob in layer.blobs]


def assert_same(have: list[np.ndarray], want: list[np.ndarray]) -> None:
    for mine, theirs in zip(have, want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def losses(text: str) -> list[float]:
    return [float(line.split("loss = ")[1]) for line in text.splitlines() if ", loss = " in line]


def test_joined_passes(capfd: pytest.CaptureFixture[str]) -> None:
    want = train()
    shown = losses(capfd.readouterr().err)
    for number in ("all", "2", "4"):
        assert_same(train("-group", number), want)
        assert losses(capfd.readouterr().err) == pytest.approx(shown, rel=1e-5)


def test_two_devices_on_one() -> None:
    want = train("-cpu_processes", "2")
    assert_same(train("-as_gpus", "2"), want)
    assert_same(train("-as_gpus", "2", "-group", "all"), want)


def test_four_devices_on_two() -> None:
    want = train("-as_gpus", "4", "-group", "all")
    assert_same(train("-as_gpus", "4", "-group", "8", "-cpu_processes", "2"), want)


def test_resumes_what_as_many_gpus_began(capfd: pytest.CaptureFixture[str]) -> None:
    train("-as_gpus", "2")
    capfd.readouterr()
    train("-as_gpus", "2", "-group", "2", "-snapshot", "s_iter_2.solverstate")
    assert "devices:" not in capfd.readouterr().err
    train("-snapshot", "s_iter_2.solverstate")
    assert "devices: 2 then, 1 now" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said", "status"),
    [
        ("-group 3", "groups of 3 passes do not divide the 4 of an iteration", 1),
        ("-group none", "-group takes a number of passes or 'all', got 'none'", 2),
        ("-group 0", "-group takes a number of passes or 'all', got '0'", 2),
        ("-as_gpus 0", "-as_gpus must be at least 1, got 0", 2),
        ("-as_gpus 3 -cpu_processes 2", "-as_gpus 3 cannot be dealt out evenly to 2 devices", 2),
        ("-group all -sync_bn", "-sync_bn makes the batches of all GPUs one", 2),
        ("-compile -group 2", "-compile and -group do not go together; leave one of them out", 2),
        ("-compile -checkpoint", "-compile and -checkpoint do not go together", 2),
        ("-cuda_graph -compile", "-cuda_graph and -compile do not go together", 2),
        ("-cuda_graph -sync_bn", "-cuda_graph and -sync_bn do not go together", 2),
        ("-cuda_graph -sync_loss", "-cuda_graph and -sync_loss do not go together", 2),
    ],
)
def test_refused(flags: str, said: str, status: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-solver", "solver.prototxt", *flags.split()]) == status
    assert said in capfd.readouterr().err
    assert not list(Path().glob("s_iter*"))


def test_graphs_are_for_gpus(capfd: pytest.CaptureFixture[str]) -> None:
    want = train()
    assert_same(train("-cuda_graph"), want)
    assert "-cuda_graph has no effect on the CPU" in capfd.readouterr().err


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["train", "-solver", "solver.prototxt", "-compile"]) == 2
    assert "there is no 'no-such-compiler'; install one" in capfd.readouterr().err
    assert not list(Path().glob("s_iter*"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own compiler warns of PyTorch
def test_compiled_training(capfd: pytest.CaptureFixture[str]) -> None:
    want = train()
    assert_same(train("-compile"), want)
    assert "-compile: 2 calls of layers are compiled" in capfd.readouterr().err


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_fast_says_what_it_is(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: has_bfloat16)
    train("-fast")
    said = capfd.readouterr().err
    assert ("-fast stands for -channels_last -bf16 here\n" in said) == has_bfloat16
    assert ("here; not -bf16, for which this device has no" in said) == (not has_bfloat16)
    train("-snapshot", "s_iter_2.solverstate")
    assert ("-bf16 was given, is not" in capfd.readouterr().err) == has_bfloat16


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", True),
        ("-channels_last", True),
        ("-channels_last=false", False),
        ("-nochannels_last", False),
        ("-fast -channels_last=false", False),
        ("-checkpoint -group 2", True),
    ],
)
def test_channels_are_innermost_unless_refused(
    flags: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    use = Net.use_channels_last
    monkeypatch.setattr(Net, "use_channels_last", lambda net: calls.append(net) or use(net))
    train(*flags.split())
    assert bool(calls) is expected


def test_layouts_differ_by_rounding_only() -> None:
    assert_same(train("-channels_last=false"), train())


def test_bfloat16_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_CPU_INFO", tmp_path / "cpuinfo")
    cpu = torch.device("cpu")
    assert not devices.has_bfloat16(cpu)
    (tmp_path / "cpuinfo").write_text("flags\t: fpu avx2 avx512f\n")
    assert not devices.has_bfloat16(cpu)
    (tmp_path / "cpuinfo").write_text("flags\t: fpu avx512_bf16 avx2\n")
    assert devices.has_bfloat16(cpu)
    assert not devices.has_tf32(cpu)


def test_deterministic_is_silent_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        want = train()
        have = train("-deterministic")
    assert not caplog.records
    assert not torch.are_deterministic_algorithms_enabled()
    for mine, theirs in zip(have, want, strict=True):
        assert np.array_equal(mine, theirs)
