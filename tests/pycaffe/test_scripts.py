"""Scripts in the manner people wrote them for pycaffe, run on tiny nets."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import caffe
import cv2
import numpy as np
import pytest

from tests.pycaffe.tiny import CONV, make_net, write_net

SCRIPTS = Path(__file__).parent / "scripts"

Run = Callable[..., dict[str, Any]]

FC = """
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 1 dim: 2 dim: {height} dim: {width} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param {{ num_output: 3 kernel_size: 2 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "{fc6}" type: "{kind}" bottom: "conv" top: "{fc6}" {fc6_param} }}
layer {{ name: "relu" type: "ReLU" bottom: "{fc6}" top: "{fc6}" }}
layer {{ name: "{fc7}" type: "{kind}" bottom: "{fc6}" top: "{fc7}" {fc7_param} }}
"""

POINTS = """
layer {{ name: "data" type: "{kind}" top: "data" top: "label" python_param {{
  module: "toy_layers" layer: "BlobsDataLayer"
  param_str: "{{'batch_size': {batch}, 'classes': 4, 'seed': {batch}}}" }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param {{ num_output: 4 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }}
"""

SEGMENTATION = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 20 dim: 20 } } }
layer { name: "down" type: "Pooling" bottom: "data" top: "down"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "down" top: "up" param { lr_mult: 0 }
  convolution_param { num_output: 3 bias_term: false kernel_size: 4 stride: 2 } }
layer { name: "score" type: "Crop" bottom: "up" bottom: "data" top: "score"
  crop_param { axis: 2 offset: 1 } }
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script in an empty folder and returns its globals."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("toy_layers", "yaml_free_params"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    def run(name: str, *arguments: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        return runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return run


def save_weights(net: caffe.Net) -> str:
    net.save("weights.caffemodel")
    return "weights.caffemodel"


def write_picture(name: str, seed: int = 0, height: int = 15, width: int = 11) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    cv2.imwrite(name, pixels)
    return name


def test_classify(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = save_weights(make_net(tmp_path, CONV))
    np.save("mean.npy", np.tile(np.array([1, 2, 3])[:, None, None], (1, 4, 4)))
    names = run("classify.py", "net.prototxt", weights, write_picture("a.png"), "mean.npy")
    assert names["output_prob"].sum() == pytest.approx(1, rel=1e-5)
    pixels = caffe.io.resize_image(caffe.io.load_image("a.png"), (8, 6))
    expected = pixels[:, :, ::-1].transpose(2, 0, 1) * 255 - np.array([1, 2, 3])[:, None, None]
    np.testing.assert_allclose(names["net"].blobs["data"].data[0], expected, rtol=1e-4, atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"class {names['output_prob'].argmax()}")
    assert "data\t(1, 3, 8, 6)" in lines
    assert "conv\t(4, 3, 3, 3) (4,)" in lines


def test_net_surgery(run: Run, tmp_path: Path) -> None:
    plain = FC.format(
        **{"height": 4, "width": 5, "fc6": "fc6", "fc7": "fc7", "kind": "InnerProduct"},
        fc6_param='inner_product_param { num_output: 6 weight_filler { type: "xavier" } }',
        fc7_param='inner_product_param { num_output: 2 weight_filler { type: "xavier" } }',
    )
    full = FC.format(
        **{"height": 7, "width": 9, "fc6": "fc6-conv", "fc7": "fc7-conv", "kind": "Convolution"},
        fc6_param="convolution_param { num_output: 6 kernel_h: 3 kernel_w: 4 }",
        fc7_param="convolution_param { num_output: 2 kernel_size: 1 }",
    )
    net = make_net(tmp_path, plain)
    weights = save_weights(net)
    write_net(tmp_path, full, "full.prototxt")
    run("net_surgery.py", "net.prototxt", "full.prototxt", weights, "full.caffemodel")
    large = caffe.Net("full.prototxt", "full.caffemodel", caffe.TEST)
    data = np.random.default_rng(0).normal(size=(1, 2, 7, 9))
    scores = large.forward(data=data)["fc7-conv"]
    assert scores.shape == (1, 2, 4, 5)
    for y, x in ((0, 0), (3, 4), (1, 2)):
        one = net.forward(data=data[:, :, y : y + 4, x : x + 5])["fc7"]
        np.testing.assert_allclose(scores[:, :, y, x], one, rtol=1e-4, atol=1e-6)


def test_train_loop(run: Run, tmp_path: Path) -> None:
    sys.path.insert(0, str(SCRIPTS))
    write_net(tmp_path, POINTS.format(kind="Python", batch=12), "train.prototxt")
    write_net(tmp_path, POINTS.format(kind="Python", batch=20), "test.prototxt")
    (tmp_path / "solver.prototxt").write_text(
        'train_net: "train.prototxt" test_net: "test.prototxt" test_iter: 1 test_interval: 1000 '
        'base_lr: 0.3 lr_policy: "fixed" momentum: 0.9 display: 0'
    )
    names = run("train_loop.py", "solver.prototxt", 31)
    assert names["train_loss"][-1] < 0.5 * names["train_loss"][0]
    assert names["test_acc"][-1] > 0.9
    net = caffe.Net("train.prototxt", caffe.TRAIN, weights="final.caffemodel")
    np.testing.assert_array_equal(
        net.params["ip"][0].data, names["solver"].net.params["ip"][0].data
    )


def test_python_layers(run: Run) -> None:
    names = run("python_layers.py", 40)
    assert names["accuracy"] > 0.9


def test_euclidean_loss_in_python_equals_the_built_in(run: Run, tmp_path: Path) -> None:
    sys.path.insert(0, str(SCRIPTS))
    losses = {
        "EuclideanLoss": 'type: "EuclideanLoss"',
        "Python": 'type: "Python" loss_weight: 1 '
        'python_param { module: "toy_layers" layer: "EuclideanLossLayer" }',
    }
    found = {}
    for kind, text in losses.items():
        net = make_net(
            tmp_path,
            'input: "a" input_shape { dim: 4 dim: 3 } input: "b" input_shape { dim: 4 dim: 3 } '
            f'force_backward: true layer {{ name: "l" bottom: "a" bottom: "b" top: "l" {text} }}',
            caffe.TRAIN,
        )
        rng = np.random.default_rng(0)
        loss = net.forward(a=rng.normal(size=(4, 3)), b=rng.normal(size=(4, 3)))["l"]
        diffs = net.backward()
        found[kind] = float(np.ravel(loss)[0]), diffs["a"], diffs["b"]
    for have, want in zip(found["Python"], found["EuclideanLoss"], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5)


def test_deep_dream(run: Run, tmp_path: Path) -> None:
    weights = save_weights(make_net(tmp_path, CONV.replace("force_backward: true", "")))
    energies = run("deep_dream.py", "net.prototxt", weights, "conv", 5)["energies"]
    assert energies[-1] > energies[0]


def test_extract_features(run: Run, tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    weights = save_weights(net)
    files = [write_picture(f"{i}.png", i, 9 + i, 7) for i in range(3)]
    (tmp_path / "list.txt").write_text("\n".join(files))
    run("extract_features.py", "net.prototxt", weights, "pool", "list.txt", "out.npy")
    features = np.load("out.npy")
    assert features.shape == (3, 4, 1, 1)
    pixels = caffe.io.resize_image(caffe.io.load_image("2.png"), (8, 6))
    net.blobs["data"].data[0] = pixels[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_allclose(features[2], net.forward(end="pool")["pool"][0], rtol=1e-4)


def test_segment(run: Run, tmp_path: Path) -> None:
    write_net(tmp_path, SEGMENTATION)
    for name, (height, width) in (("a.npy", (12, 18)), ("b.npy", (26, 10))):
        image = np.zeros((height, width, 3), np.float32)
        image[:6, :, 1] = 1
        image[6:, :, 2] = 1
        np.save(name, image)
    outs = run("segment.py", "net.prototxt", "a.npy", "b.npy")["outs"]
    assert [out.shape for out in outs] == [(12, 18), (26, 10)]
    for out in outs:
        assert (out[1:5, 1:-1] == 1).all()
        assert (out[7:-1, 1:-1] == 2).all()
