"""`caffe train` and what decides on batch statistics: -sync_bn, -sync_loss, extensions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from caffe_ssd import devices
from caffe_ssd.cli.main import main
from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.blobs import blob_to_array

SOLVER = """
base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 3 display: 1 random_seed: 3
solver_mode: CPU snapshot_prefix: "model" net_param {
layer { name: "x" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 4 dim: 6 dim: 3 dim: 2 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "norm" type: "BatchNorm" bottom: "x" top: "norm" }
layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" scale_param { bias_term: true } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" } }
"""
GROUPS = SOLVER.replace('"BatchNorm"', '"GroupNorm" group_norm_param { num_groups: 2 }')


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text(SOLVER)


def test_one_device_has_nobody_to_share_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-solver", "solver.prototxt", "-sync-bn", "--sync_loss"]) == 0
    error = capsys.readouterr().err
    assert "-sync_bn has no effect on one device" in error
    assert "-sync_loss has no effect on one device" in error
    assert "extensions" not in error


def test_two_devices_share_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_devices", lambda *_, **__: [torch.device("cpu")] * 2)
    means = []
    for flags in ([], ["-sync_bn"]):
        assert main(["train", "-solver", "solver.prototxt", *flags]) == 0
        net = read_weights("model_iter_3.caffemodel")
        means.append(blob_to_array(net.layer[1].blobs[0]))
    assert abs(means[0] - means[1]).max() > 1e-3


def test_extensions_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("solver.prototxt").write_text(GROUPS)
    assert main(["train", "-solver", "solver.prototxt"]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "does not know" in line]
    assert len(lines) == 1
    told = 'what the original SSD-Caffe does not know: type: "GroupNorm" (1), group_norm_param (1)'
    assert told in lines[0]
