"""`caffe export`: another program gets the net's numbers out of the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import onnxruntime
import pytest
import torch

from caffe_ssd.cli.main import main
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.weights import copy_trained_file, save_binary
from caffe_ssd.proto.caffe_pb2 import NetState
from caffe_ssd.proto.text import read_net
from tests.data.databases import picture
from tests.support.golden import SHARED_GOLDEN, needs_shared
from tests.support.tiny_detector import BODY, INPUT, tiny_detector

HEADS = ["loc_flat", "conf_flat", "priors"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(INPUT + BODY)
    save_binary(tiny_detector(), "w.caffemodel")
    return tmp_path


def export(*flags: str, model: str = "deploy.prototxt", weights: str = "w.caffemodel") -> int:
    return main(["export", "-model", model, "-weights", weights, "-output", "n.onnx", *flags])


def outputs(x: torch.Tensor) -> dict[str, torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession("n.onnx", options)
    (given,) = session.get_inputs()
    names = [each.name for each in session.get_outputs()]
    blobs = session.run(names, {given.name: x.numpy()})
    return {name: torch.from_numpy(blob) for name, blob in zip(names, blobs, strict=True)}


def assert_same_blobs(net: Net, names: list[str], x: torch.Tensor, atol: float = 1e-4) -> None:
    with torch.no_grad():
        want = net({net.inputs[0]: x}, keep=names).blobs
    got = outputs(x)
    assert list(got) == names
    torch.testing.assert_close(got, {name: want[name] for name in names}, rtol=0, atol=atol)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def test_a_detector(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export() == 0
    assert_same_blobs(tiny_detector(), HEADS, noise(2, 3, 32, 48))
    out = capsys.readouterr().out
    assert "input   data       2x3x32x48" in out
    assert "output  priors     1x2x384" in out
    assert "found (DetectionOutput): decode boxes (CENTER_SIZE, times the priors' variances)" in out
    assert "NMS at 0.4; keep the best 40 per image" in out


def test_another_shape(folder: Path) -> None:
    """Priors follow the size."""
    assert export("-batch", "3", "-input_size", "40x24") == 0
    assert_same_blobs(tiny_detector(), HEADS, noise(3, 3, 40, 24))


def test_a_net_without_detection_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = INPUT + BODY[: BODY.index('layer { name: "priors"')]
    Path("heads.prototxt").write_text(text)
    assert export(model="heads.prototxt") == 0
    assert_same_blobs(tiny_detector(text), ["conf_flat", "loc_flat"], noise(2, 3, 32, 48))
    assert "nothing is left" in capsys.readouterr().out


def test_eight_bits(folder: Path) -> None:
    for i in range(4):
        cv2.imwrite(f"{i}.png", picture(seed=i))
    assert export("-precision", "int8", "-calibration", ".", "-scale", "1/64") == 0
    x = (torch.from_numpy(picture(32, 48)).permute(2, 0, 1)[None].float() - 110) / 64
    assert_same_blobs(tiny_detector(), HEADS, x.repeat(2, 1, 1, 1), atol=0.2)


@needs_shared
def test_a_released_model(folder: Path) -> None:
    """With layers in place on the input, and two detection maps."""
    home = SHARED_GOLDEN / "models" / "wechat_qrcode"
    model, weights = str(home / "detect.prototxt"), str(home / "detect.caffemodel")
    assert export("-input_size", "96x128", model=model, weights=weights) == 0
    net = build_net(read_net(model), NetState(phase=1))
    copy_trained_file(net, weights)
    names = ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"]
    assert_same_blobs(net, names, noise(1, 1, 96, 128).abs() / 255)


def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("-precision", "bf16") == 2
    assert export("-precision", "int8") == 2
    assert "needs calibration" in capsys.readouterr().err
    assert export("-batch", "0") == 2
    assert main(["export", "-model", "deploy.prototxt", "-weights", "w.caffemodel"]) == 2
    assert "-output is missing" in capsys.readouterr().err
    bad = INPUT + 'layer { name: "m" type: "MVN" bottom: "data" top: "m" }'
    Path("bad.prototxt").write_text(bad)
    assert export(model="bad.prototxt") == 2
    assert "layer 'm' (MVN) cannot be written in ONNX" in capsys.readouterr().err
    assert not Path("n.onnx").exists()
