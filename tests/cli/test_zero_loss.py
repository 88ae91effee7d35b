"""`caffe train` says why it learns nothing."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from caffe_ssd.cli.main import main

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 4 dim: 4 } shape { dim: 1 dim: 1 dim: 3 dim: 8 }
  data_filler { type: "gaussian" std: 1 } data_filler { value: %s } } }
layer { name: "loc" type: "Convolution" bottom: "data" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf" type: "Convolution" bottom: "data" top: "conf"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc" top: "loc_flat" }
layer { name: "conf_flat" type: "Flatten" bottom: "conf" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "loc" bottom: "data" top: "prior"
  prior_box_param { min_size: 1 } }
layer { name: "mbox_loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat"
  bottom: "prior" bottom: "label" top: "loss"
  multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE } }
"""
SOLVER = """
train_net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 display: 1
snapshot_after_train: false
"""


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("-1", "there is no box in this batch's data"),
        ("1", "no prior matches any box of this batch (overlap_threshold 0.5)"),  # without area
    ],
)
def test_the_reason_is_told_once(
    value: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET % value)
    Path("solver.prototxt").write_text(SOLVER)
    log = io.StringIO()
    with contextlib.redirect_stderr(log):
        assert main(["train", "-solver", "solver.prototxt"]) == 0
    told = [line for line in log.getvalue().splitlines() if "the loss is 0" in line]
    assert len(told) == 1
    assert told[0].endswith(f"iteration 0: the loss is 0: layer 'mbox_loss' (MultiBoxLoss): {why}")
