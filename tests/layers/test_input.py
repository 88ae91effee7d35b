"""Input: its shapes."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.registry import LayerSpec, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter


def build(text):
    param = text_format.Parse(f'name: "in" type: "Input" {text}', LayerParameter())
    return build_layer(LayerSpec(param=param, bottoms=()))


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ("", ((0,), (0,))),
        ("shape { dim: 2 dim: 3 }", ((2, 3), (2, 3))),
        ("shape { dim: 2 dim: 3 } shape { }", ((2, 3), ())),
    ],
)
def test_shapes(shapes, expected):
    layer = build(f'top: "a" top: "b" input_param {{ {shapes} }}')
    assert layer.top_shapes() == expected
    assert tuple(tuple(top.shape) for top in layer()) == expected
    assert all((top == 0).all() for top in layer())


def test_one_top():
    assert build('top: "a" input_param { shape { dim: 4 dim: 5 } }')().shape == (4, 5)


def test_wrong_number_of_shapes():
    with pytest.raises(LayerParamError, match=r"once per top \(1\), got 2"):
        build('top: "a" input_param { shape { dim: 1 } shape { dim: 2 } }')


def test_negative_shape():
    with pytest.raises(LayerParamError, match=r"must not be negative, got \[2, -1\]"):
        build('top: "a" input_param { shape { dim: 2 dim: -1 } }')
