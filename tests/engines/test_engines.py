"""Every engine computes what the net computes."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
import torch

from caffe_ssd.engines.engine import Engine
from caffe_ssd.engines.frozen_net import freeze
from caffe_ssd.engines.onnx_export import is_exportable, onnx_model
from caffe_ssd.engines.onnx_graph import Weights
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.torch_engine import TorchEngine
from tests.engines.nets import make_net, picture

ENGINES = [TorchEngine, OnnxRuntimeEngine, OpenVinoEngine]


def layer(kind: str, settings: str = "", bottoms: str = 'bottom: "x"') -> str:
    return f'layer {{ name: "y" type: "{kind}" {bottoms} top: "y" {settings} }}'


def pooling(settings: str) -> str:
    return layer("Pooling", f"pooling_param {{ {settings} }}")


# One net per way of writing a layer. The input is (2, 6, 9, 7).
LAYERS = {
    "convolution": layer(
        "Convolution",
        "convolution_param { num_output: 4 kernel_h: 3 kernel_w: 1 pad_h: 2 pad_w: 0 stride: 2 "
        "dilation: 2 group: 2 }",
    ),
    "deconvolution": layer(
        "Deconvolution", "convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 3 }"
    ),
    "inner product": layer("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }"),
    "inner product, no bias": layer(
        "InnerProduct", "inner_product_param { num_output: 5 bias_term: false }"
    ),
    "batch norm": layer("BatchNorm"),
    "bias": layer("Bias"),
    "normalize": layer("Normalize", "norm_param { across_spatial: false }"),
    "normalize, one scale": layer(
        "Normalize", "norm_param { across_spatial: false channel_shared: true }"
    ),
    "max pooling, odd edge": pooling("kernel_size: 2 stride: 2"),
    "max pooling, padded": pooling("kernel_size: 3 stride: 2 pad: 1"),
    "average pooling": pooling("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    "average pooling, odd edge": pooling("pool: AVE kernel_size: 2 stride: 2"),
    "global pooling": pooling("pool: AVE global_pooling: true"),
    "relu": layer("ReLU"),
    "leaky relu": layer("ReLU", "relu_param { negative_slope: 0.2 }"),
    "prelu": layer("PReLU"),
    "prelu, one slope": layer("PReLU", "prelu_param { channel_shared: true }"),
    "sigmoid": layer("Sigmoid"),
    "tanh": layer("TanH"),
    "abs": layer("AbsVal"),
    "bnll": layer("BNLL"),
    "elu": layer("ELU", "elu_param { alpha: 0.7 }"),
    "exp": layer("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
    "log": layer("AbsVal").replace('"y"', '"a"')
    + layer("Log", "log_param { base: 10 scale: 3 shift: 0.5 }", 'bottom: "a"'),
    "power": layer("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
    "scale over rows": layer("Scale", "scale_param { axis: 2 bias_term: true }"),
    "scale by a bottom": pooling("pool: AVE global_pooling: true").replace('"y"', '"g"')
    + 'layer { name: "f" type: "Flatten" bottom: "g" top: "f" }'
    + layer("Scale", "scale_param { axis: 0 }", 'bottom: "x" bottom: "f"'),
    "sum": layer("Eltwise", "eltwise_param { coeff: 1 coeff: -2 }", 'bottom: "x" bottom: "x"'),
    "product": layer("Eltwise", "eltwise_param { operation: PROD }", 'bottom: "x" bottom: "x"'),
    "maximum": layer("AbsVal").replace('"y"', '"a"')
    + layer("Eltwise", "eltwise_param { operation: MAX }", 'bottom: "x" bottom: "a"'),
    "concat": layer("Concat", "concat_param { axis: 2 }", 'bottom: "x" bottom: "x"'),
    "slice": 'layer { name: "s" type: "Slice" bottom: "x" top: "y" top: "z" '
    "slice_param { slice_point: 2 } }",
    "crop": pooling("kernel_size: 3 stride: 1").replace('"y"', '"small"')
    + layer("Crop", "crop_param { offset: 2 offset: 1 }", 'bottom: "x" bottom: "small"'),
    "flatten": layer("Flatten", "flatten_param { axis: 2 }"),
    "reshape": layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }"),
    "permute": layer("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    "softmax": layer("Softmax", "softmax_param { axis: 2 }"),
    "lrn": layer("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }"),
    "dropout": layer("Dropout") + 'layer { name: "t" type: "TanH" bottom: "y" top: "t" }',
}


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("text", LAYERS.values(), ids=list(LAYERS))
def test_one_layer(kind: type[Engine], text: str) -> None:
    net = make_net(text)
    x = picture()
    want = net({"x": x}).blobs
    engine = kind(freeze(net))
    names = [name for name, _ in engine.net.outputs]
    for name, top in zip(names, engine(x), strict=True):
        torch.testing.assert_close(top, want[name].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ENGINES[1:], ids=lambda kind: kind.name)
@pytest.mark.parametrize("text", LAYERS.values(), ids=list(LAYERS))
def test_one_layer_whose_weights_stay_outside(
    kind: type[Engine], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe_ssd.engines.onnx_graph._LARGE", 2)
    test_one_layer(kind, text)


@pytest.mark.parametrize("text", LAYERS.values(), ids=list(LAYERS))
def test_each_of_these_layers_is_exported(text: str) -> None:
    frozen = freeze(make_net(text)).specialised(picture())
    head, tail = frozen.split(lambda op: is_exportable(op.layer))
    assert not tail.program
    assert len(head.program) >= 1


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)
def test_what_cannot_be_exported_runs_behind(kind: type[Engine]) -> None:
    text = layer("ReLU").replace('"y"', '"r"') + layer("MVN", "", 'bottom: "r"')
    net = make_net(text + layer("TanH", "", 'bottom: "y"').replace('top: "y"', 'top: "t"'))
    x = picture()
    (top,) = kind(freeze(net))(x)
    torch.testing.assert_close(top, net({"x": x}).blobs["t"].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)
def test_another_shape_prepares_again(kind: type[Engine]) -> None:
    conv = "convolution_param { num_output: 4 kernel_size: 3 }"
    net = make_net(layer("Convolution", conv))
    engine = kind(freeze(net))
    for shape in ((2, 6, 9, 7), (1, 6, 5, 8), (2, 6, 9, 7)):
        x = picture(shape)
        (top,) = engine(x)
        want = net({"x": x}).blobs["y"].detach()
        torch.testing.assert_close(top, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.name)
def test_results_are_not_overwritten_by_the_next_call(kind: type[Engine]) -> None:
    engine = kind(freeze(make_net(layer("TanH"))))
    (first,) = engine(picture(seed=1))
    before = first.clone()
    engine(picture(seed=2))
    assert torch.equal(first, before)


SIGNALLED = """
import signal
import torch
from caffe_ssd.engines.frozen_net import freeze
from caffe_ssd.engines.onnx_runtimes import OpenVinoEngine
from tests.engines.nets import make_net, picture

engine = OpenVinoEngine(freeze(make_net('layer { name: "y" type: "TanH" bottom: "x" top: "y" }')))
for width in (7, 8, 9):
    engine(picture((1, 6, 5, width)))
del engine
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_signals_are_handled_after_openvino_was_used() -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNALLED]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


LARGE = """
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param {
  num_output: 64 kernel_size: 3 pad: 1 } }
layer { name: "n" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "r" type: "PReLU" bottom: "a" top: "a" }
layer { name: "g" type: "Convolution" bottom: "a" top: "g" convolution_param {
  num_output: 128 kernel_size: 3 group: 4 } }
layer { name: "w" type: "Convolution" bottom: "g" top: "w" convolution_param {
  num_output: 128 kernel_size: 3 group: 128 } }
layer { name: "d" type: "Deconvolution" bottom: "w" top: "d" convolution_param {
  num_output: 32 kernel_size: 2 stride: 2 group: 2 } }
layer { name: "i" type: "InnerProduct" bottom: "d" top: "i" inner_product_param {
  num_output: 50 } }
"""


@pytest.mark.parametrize("kind", ENGINES[1:], ids=lambda kind: kind.name)
def test_large_weights_stay_outside_of_the_model(kind: type[Engine]) -> None:
    net = make_net(LARGE)
    x = picture()
    with torch.no_grad():
        want = net({"x": x}).blobs["i"]
        frozen = freeze(net)
        weights: Weights = {}
        inside = onnx_model(frozen.specialised(x))
        assert len(onnx_model(frozen.specialised(x), apart=weights)) < 8000 < len(inside) / 10
        assert sum(array.size for array in weights.values()) > 20000
        engine = kind(frozen)
        engine(x)
        gc.collect()
        torch.full((1 << 20,), 7.0)  # into what was freed
        np.full(1 << 20, 7.0)
        (got,) = engine(x)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
