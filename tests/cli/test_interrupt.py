"""A training that was interrupted, politely or not, ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caffe_ssd.proto.binary import read_weights
from caffe_ssd.proto.blobs import blob_to_array
from lmdb_tools.convert_annoset import main as convert_annoset
from lmdb_tools.shapes import make_shapes

NET = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { height: 48 width: 64 interp_mode: LINEAR interp_mode: AREA }
    emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 32 hue_prob: 0.5 hue_delta: 18 }
    expand_param { prob: 0.5 max_expand_ratio: 2 } }
  data_param { source: "train_lmdb" batch_size: 3 backend: LMDB }
  annotated_data_param { batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler { sampler { min_scale: 0.4 } sample_constraint { min_jaccard_overlap: 0.3 }
      max_sample: 1 max_trials: 20 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 stride: 8 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
  prior_box_param { min_size: 20 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat" bottom: "prior"
  bottom: "label" top: "loss" propagate_down: true propagate_down: true propagate_down: false
  propagate_down: false
  multibox_loss_param { num_classes: 6 code_type: CENTER_SIZE overlap_threshold: 0.3 } }
"""
SOLVER = """
train_net: "train.prototxt" base_lr: 0.01 lr_policy: "multistep" stepvalue: 20 gamma: 0.1
momentum: 0.9 weight_decay: 0.0005 iter_size: 2 max_iter: 40 display: 1 snapshot: 7
snapshot_prefix: "model" random_seed: 3 solver_mode: CPU
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupt")
    shapes = folder / "shapes"
    make_shapes(str(shapes), num_train=10, num_test=1, size=64, seed=5)
    arguments = ["--anno_type=detection", f"--label_map_file={shapes}/labelmap_shapes.prototxt"]
    paths = [f"{shapes}/", f"{shapes}/trainval.txt", str(folder / "train_lmdb")]
    assert convert_annoset([*arguments, "--encode_type=jpg", "--encoded", *paths]) == 0
    return folder


def prepare(data: Path, folder: Path) -> None:
    (folder / "train_lmdb").symlink_to(data / "train_lmdb")
    (folder / "train.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)


def start(folder: Path, *flags: str) -> subprocess.Popen[str]:
    program = "import sys; from caffe_ssd.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "train", "--solver=solver.prototxt", *flags]
    return subprocess.Popen(
        command,
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(folder: Path, *flags: str) -> None:
    process = start(folder, *flags)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log[-2000:]


def run_until(folder: Path, line: str) -> subprocess.Popen[str]:
    """Start a training and return when it has logged this text."""
    process = start(folder)
    deadline = time.monotonic() + 300
    for text in process.stderr:
        if line in text:
            return process
        assert time.monotonic() < deadline
    raise AssertionError(f"the training ended without {line!r}")


def weights(folder: Path, iteration: int) -> dict[str, bytes]:
    message = read_weights(folder / f"model_iter_{iteration}.caffemodel")
    return {
        f"{layer.name}/{i}": blob_to_array(blob).tobytes()
        for layer in message.layer
        for i, blob in enumerate(layer.blobs)
    }


@pytest.fixture(scope="module")
def uninterrupted(data: Path) -> dict[str, bytes]:
    folder = data / "uninterrupted"
    folder.mkdir()
    prepare(data, folder)
    run(folder)
    return weights(folder, 40)


def test_sigint_writes_a_snapshot_that_goes_on(data, uninterrupted, tmp_path) -> None:
    prepare(data, tmp_path)
    process = run_until(tmp_path, "Iteration 9, loss")
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Optimization stopped early." in log
    states = sorted(tmp_path.glob("*.solverstate"), key=lambda p: int(p.stem.split("_")[-1]))
    stopped_at = int(states[-1].stem.split("_")[-1])
    assert 10 <= stopped_at < 40
    run(tmp_path, f"--snapshot={states[-1].name}")
    assert weights(tmp_path, 40) == uninterrupted


def test_kill_loses_nothing_behind_the_last_snapshot(data, uninterrupted, tmp_path) -> None:
    prepare(data, tmp_path)
    process = run_until(tmp_path, "Iteration 17, loss")
    process.kill()
    process.communicate()
    assert not list(tmp_path.glob("model_iter_40*"))
    run(tmp_path, "--snapshot=model_iter_14.solverstate", "--workers=1")
    assert weights(tmp_path, 40) == uninterrupted
