"""A net with an engine inside is still that net."""

from __future__ import annotations

import shutil

import pytest
import torch

from caffe_ssd.engines import cpu_kernels
from caffe_ssd.engines.accelerate import ENGINES, EngineCall, accelerate
from caffe_ssd.engines.frozen_layers import FrozenConvolution
from caffe_ssd.engines.precision import Precision
from caffe_ssd.errors import NetError, UsageError
from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text, read_net
from tests.engines.nets import make_net, picture, randomise
from tests.support.golden import GOLDEN
from tests.support.tiny_detector import tiny_detector

BODY = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 4 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "i" type: "InnerProduct" bottom: "c" top: "i" inner_product_param { num_output: 5 } }
"""
NAMES = [name for name in ENGINES if name != "compile"]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_inner_blobs_stay_the_same(name: str) -> None:
    net = make_net(BODY)
    x = picture()
    with torch.no_grad():
        want = net({"x": x}, keep=["c"]).blobs
        accelerate(net, name)
        torch.testing.assert_close(net({"x": x}).blobs["i"], want["i"], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(net({"x": x}, keep=["c"]).blobs["c"], want["c"])


def test_losses_and_labels_stay_outside() -> None:
    text = (
        BODY
        + """
    layer { name: "d" type: "DummyData" top: "label" dummy_data_param {
      shape { dim: 2 } data_filler { value: 3 } } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "i" bottom: "label" top: "loss" }
    layer { name: "a" type: "Accuracy" bottom: "i" bottom: "label" top: "accuracy" }"""
    )
    net = make_net(text)
    with torch.no_grad():
        want = net({"x": picture()})
        accelerate(net, "onnxruntime")
        got = net({"x": picture()})
    torch.testing.assert_close(got.loss, want.loss)
    assert got.blobs.keys() == want.blobs.keys() == {"accuracy", "loss"}
    torch.testing.assert_close(got.blobs, want.blobs)


def detector() -> Net:
    path = GOLDEN / "eval/deploy.prototxt"
    net = build_net(read_net(path), NetState(phase=1))
    randomise(net)
    return net


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_finds_the_same(name: str) -> None:
    net = detector()
    x = picture((2, 3, 96, 128)) * 0.3
    with torch.no_grad():
        want = net({net.inputs[0]: x}).blobs
        accelerate(net, name)
        got = net({net.inputs[0]: x}).blobs
    assert [type(op.layer).__name__ for op in net.program if op.bottoms][-1] == "DetectionOutput"
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow  # a compiler runs
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("default")  # PyTorch's own compiler warns of PyTorch
def test_compiled_in_one_graph() -> None:
    """A detector in a process that has compiled nothing; a graph break is an error there."""
    net = tiny_detector()
    x = picture((2, 3, 32, 48))
    with torch.no_grad():
        want = net({"data": x}).blobs
        engine = accelerate(net, "compile")
        got = net({"data": x}).blobs
    assert engine is not None
    assert engine.description.startswith("compile (torch ")
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_a_net_without_layers_to_hand_over_is_left_alone() -> None:
    silence = 'layer { name: "s" type: "Silence" bottom: "x" }'
    net = make_net(silence)
    assert accelerate(net) is None
    assert not any(isinstance(op.layer, EngineCall) for op in net.program)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="no engine named 'tensorrt'; there are: auto, torch"):
        accelerate(make_net(BODY), "tensorrt")
    with pytest.raises(NetError, match="phase TRAIN"):
        accelerate(build_net(parse_text("", NetParameter(), "empty"), NetState(phase=0)))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(UsageError, match=r"pip install 'ssd-caffe\[openvino\]'"):
        accelerate(make_net(BODY), "openvino")


@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [
        ("torch", "bf16", 0.05),
        ("openvino", "bf16", 0.05),
        ("openvino", "int8", 0.2),
        ("onnxruntime", "int8", 0.2),
        ("auto", "int8", 0.2),
    ],
)
def test_lower_precision_stays_near(name: str, precision: str, tolerance: float) -> None:
    net = make_net(BODY)
    x = picture()
    calibration = [picture((1, 6, 9, 7), seed) for seed in range(5)]
    with torch.no_grad():
        want = net({"x": x}).blobs["i"]
        engine = accelerate(net, name, Precision(name=precision, calibration=calibration))
        got = net({"x": x}).blobs["i"]
    assert engine is not None
    assert engine.description.endswith(f", {precision}")
    error = float((got - want).abs().max() / want.abs().max())
    assert error < tolerance
    assert error > 0 or name == "openvino"  # OpenVINO keeps to float32 without the hardware


SCORES = (
    BODY
    + """
layer { name: "s" type: "Softmax" bottom: "i" top: "s" }"""
)


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_scores_are_not_rounded_to_eight_bits(name: str) -> None:
    net = make_net(SCORES)
    with torch.no_grad():
        accelerate(net, name, Precision(name="bf16"))
        scores = net({"x": picture()}).blobs["s"]
    assert scores.dtype == torch.float32
    assert not torch.equal(scores.bfloat16().float(), scores)
    torch.testing.assert_close(scores.sum(1), torch.ones(2), rtol=0, atol=1e-6)


@pytest.mark.slow  # a compiler runs
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("default")  # PyTorch's own compiler warns of PyTorch
def test_compiled_in_bfloat16() -> None:
    net = make_net(SCORES)
    with torch.no_grad():
        want = net({"x": picture()}).blobs["s"]
        accelerate(net, "compile", Precision(name="bf16"))
        got = net({"x": picture()}).blobs["s"]
    torch.testing.assert_close(got, want, rtol=0, atol=0.02)
    assert not torch.equal(got, want)


def test_bfloat16_is_packed_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = FrozenConvolution(
        torch.ones(2, 3, 1, 1, dtype=torch.bfloat16),
        None,
        geometry=make_net(BODY).layers[1].geometry,
        group=1,
    )
    for has in (True, False):
        monkeypatch.setattr("caffe_ssd.engines.cpu_kernels.has_bfloat16", lambda _, has=has: has)
        assert cpu_kernels._can_be_packed(conv) == has


def test_precision_is_checked() -> None:
    with pytest.raises(UsageError, match="no precision 'fp16'; there are: fp32, bf16, int8"):
        Precision(name="fp16")
    with pytest.raises(UsageError, match="pictures to calibrate with"):
        Precision(name="int8")
    with pytest.raises(UsageError, match="torch does not calculate in int8; it offers: fp32, bf16"):
        accelerate(make_net(BODY), "torch", Precision(name="int8", calibration=[picture()]))
