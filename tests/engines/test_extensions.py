"""Layers of other forks in engines and exported models, against the net itself."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.engines.accelerate import ENGINES
from caffe_ssd.engines.frozen_net import freeze
from caffe_ssd.engines.onnx_export import is_exportable
from tests.engines.nets import make_net, picture

TO_Y = 'bottom: "x" top: "y"'


def layer(kind: str, settings: str = "", blobs: str = TO_Y) -> str:
    return f'layer {{ name: "l" type: "{kind}" {blobs} {settings} }}'


def relu_behind(text: str) -> str:
    return text + 'layer { name: "r" type: "ReLU" bottom: "y" top: "r" }'


MASK = (
    'layer { name: "s" type: "Slice" bottom: "x" top: "m" top: "n" slice_param { slice_point: 1 } }'
)
FACTOR = (
    'layer { name: "p" type: "Pooling" bottom: "x" top: "p" '
    "pooling_param { pool: AVE global_pooling: true } }"
)
# One net per way of running a layer. The input is (2, 6, 9, 7).
LAYERS = {
    "depthwise": relu_behind(
        layer("DepthwiseConvolution", "convolution_param { num_output: 12 kernel_size: 3 pad: 1 }")
    ),
    "depthwise, implied": layer("ConvolutionDepthwise", "convolution_param { kernel_size: 3 }"),
    "side pads": relu_behind(
        layer(
            "Convolution",
            "convolution_param { num_output: 4 kernel_size: 3 stride: 2 "
            "pad_l: 2 pad_t: 1 pad_b: 3 }",
        )
    ),
    "side pads, 1x1": layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 1 pad_r: 2 }"
    ),
    "floor": layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 ceil_mode: false }"),
    "floor, average": layer(
        "Pooling",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }",
    ),
    "pool with side pads": layer(
        "Pooling", "pooling_param { kernel_size: 3 stride: 2 pad_l: 1 pad_b: 2 }"
    ),
    "relu6": layer("ReLU6"),
    "relu6, leaky": layer("ReLU6", "relu6_param { negative_slope: 0.2 }"),
    "relu6 behind a convolution": layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 1 }"
    )
    + 'layer { name: "r" type: "ReLU" bottom: "y" top: "r" relu_param { relu6: true } }',
    "swish": layer("Swish", "swish_param { beta: 2 }"),
    "hard swish": layer("HardSwish"),
    "shuffle": layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"),
    "upsample": layer("Upsample", "upsample_param { scale: 3 }"),
    "interp": layer("Interp", "interp_param { height: 13 width: 5 pad_beg: -1 pad_end: -2 }"),
    "interp to a bottom's size": FACTOR
    + layer("Interp", "interp_param { use_blob_size: true }", 'bottom: "p" bottom: "x" top: "y"'),
    "axpy": FACTOR + layer("Axpy", "", 'bottom: "p" bottom: "x" bottom: "x" top: "y"'),
    "PSPNet's BN": relu_behind(layer("BN", "bn_param { eps: 0.1 }")),
    "SegNet's BN": layer("BN", "bn_param { bn_mode: INFERENCE }"),
    "BN behind a convolution": layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 }"
    )
    + 'layer { name: "b" type: "BN" bottom: "y" top: "b" bn_param { frozen: true } }',
    "batch norm with scale": layer("BatchNorm", "batch_norm_param { scale_bias: true }"),
    "batch norm with scale, twice": layer("BatchNorm", "batch_norm_param { scale_bias: true }")
    + 'layer { name: "s" type: "Scale" bottom: "y" top: "s" scale_param { bias_term: true } }'
    + 'layer { name: "r" type: "ReLU" bottom: "s" top: "r" }',
    "plain normalize": layer("Normalize", "normalize_param { }"),
    "plain normalize, L1": layer(
        "Normalize", 'normalize_param { normalize_type: "L1" }', TO_Y + ' top: "norm"'
    ),
    "reorg": layer("Slice", "slice_param { slice_point: 4 }", 'bottom: "x" top: "a" top: "z"')
    + 'layer { name: "c" type: "Pooling" bottom: "a" top: "c" pooling_param { kernel_size: 2 } }'
    + layer("Reorg", "reorg_param { stride: 2 }", 'bottom: "c" top: "y"').replace('"l"', '"o"')
    + 'layer { name: "back" type: "Reorg" bottom: "y" top: "b" '
    + "reorg_param { stride: 2 reverse: true } }",
    "squeeze": FACTOR
    + layer("Squeeze", "squeeze_param { axis: 2 axis: -1 }", 'bottom: "p" top: "y"'),
    "mask": MASK + layer("MaskPooling", "", 'bottom: "n" bottom: "m" top: "y"'),
}
BEHIND = {
    "SegNet's BN by the batch": layer("BN", "bn_param { bn_mode: LEARN }"),
    "unpooling": layer(
        "Pooling", "pooling_param { kernel_size: 3 stride: 3 }", 'bottom: "x" top: "p" top: "m"'
    )
    + layer(
        "Upsample",
        "upsample_param { upsample_h: 9 upsample_w: 7 }",
        'bottom: "p" bottom: "m" top: "y"',
    ).replace('"l"', '"u"'),
}


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("text", [*LAYERS.values(), *BEHIND.values()], ids=[*LAYERS, *BEHIND])
def test_one_layer(engine: str, text: str) -> None:
    net = make_net(text)
    x = picture() * 4
    want = net({"x": x}).blobs
    run = ENGINES[engine](freeze(net))
    names = [name for name, _ in run.net.outputs]
    for name, top in zip(names, run(x), strict=True):
        torch.testing.assert_close(top, want[name].detach(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("text", LAYERS.values(), ids=list(LAYERS))
def test_each_of_these_layers_is_exported(text: str) -> None:
    frozen = freeze(make_net(text)).specialised(picture())
    head, tail = frozen.split(lambda op: is_exportable(op.layer))
    assert not tail.program
    assert len(head.program) >= 1
