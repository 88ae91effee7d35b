"""Nets whose batch norm became group norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe.models.dsod import DSOD300, DSOD300_SMALLEST, TINY, DenseBody
from caffe.models.normalisers import with_group_norm
from caffe.proto import caffe_pb2
from google.protobuf import text_format


def body_net(body: DenseBody, size: int) -> Any:
    n = caffe.NetSpec()
    n.data = L.Input(input_param={"shape": {"dim": [1, 3, size, size + 16]}})
    body.add_to(n, "data")
    return n.to_proto()


def by_type(net: Any, layer_type: str) -> list[Any]:
    return [layer for layer in net.layer if layer.type == layer_type]


def parse(text: str) -> Any:
    return text_format.Parse(text, caffe_pb2.NetParameter())


def test_group_norm_trains(tmp_path: Path) -> None:
    before = body_net(TINY, 96)
    untouched = before.SerializeToString()
    after = with_group_norm(before)
    assert before.SerializeToString() == untouched
    assert not by_type(after, "BatchNorm")
    assert len(by_type(after, "GroupNorm")) == len(by_type(before, "BatchNorm"))
    assert by_type(after, "GroupNorm")[0].name == "GroupNorm1"
    after.force_backward = True
    path = tmp_path / "net.prototxt"
    path.write_text(text_format.MessageToString(after))
    net = caffe.Net(str(path), caffe.TRAIN)
    for layer in by_type(after, "GroupNorm"):
        channels = net.blobs[layer.top[0]].data.shape[1]
        assert layer.group_norm_param.num_groups == np.gcd(32, channels), layer.name
    rng = np.random.default_rng(0)
    net.blobs["data"].data[...] = rng.normal(size=(1, 3, 96, 112))
    net.forward()
    net.blobs["Fourth"].diff[...] = rng.normal(size=net.blobs["Fourth"].data.shape)
    net.backward()
    assert np.isfinite(net.blobs["Fourth"].data).all()
    assert np.abs(net.params["Convolution1"][0].diff).max() > 0


@pytest.mark.parametrize("body", [DSOD300, DSOD300_SMALLEST])
def test_published_widths_divide(body: DenseBody) -> None:
    groups = [
        layer.group_norm_param.num_groups
        for layer in by_type(with_group_norm(body_net(body, 300)), "GroupNorm")
    ]
    assert len(groups) > 60
    assert min(groups) == 16


def test_names_blobs_and_settings_follow() -> None:
    net = parse("""
        input: "x" input_dim: 2 input_dim: 6 input_dim: 5 input_dim: 4
        layer { name: "norm" type: "BatchNorm" bottom: "x" top: "norm"
          param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 }
          batch_norm_param { eps: 0.25 use_global_stats: false } blobs { data: 1 } }
        layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" }
        layer { name: "c" type: "Convolution" bottom: "norm" top: "c"
          convolution_param { num_output: 8 kernel_size: 1 } }
        layer { name: "bn2a" type: "BatchNorm" bottom: "c" top: "c" }
        layer { name: "c_bn" type: "BatchNorm" bottom: "c" top: "c" }
        layer { name: "c_gn" type: "ReLU" bottom: "c" top: "c" }
        layer { name: "all" type: "Concat" bottom: "norm" bottom: "c" top: "all" }
        layer { name: "BatchNorm9" type: "BatchNorm" bottom: "all" top: "BatchNorm9" }
        layer { name: "frozen" type: "BatchNorm" bottom: "all" top: "frozen"
          batch_norm_param { use_global_stats: true } }
    """)
    after = with_group_norm(net, num_groups=4)
    names = [layer.name for layer in after.layer]
    assert names == [
        *("norm_gn", "scale", "c", "gn2a", "c_gn_", "c_gn", "all", "GroupNorm9", "frozen")
    ]
    first, scale = after.layer[:2]
    assert (list(first.bottom), list(first.top)) == (["x"], ["norm_gn"])
    assert (list(scale.bottom), list(scale.top)) == (["norm_gn"], ["norm_gn"])
    assert first.group_norm_param.eps == 0.25
    left = {field.name for field, _ in first.ListFields()}
    assert left == {"name", "type", "bottom", "top", "group_norm_param"}
    groups = [layer.group_norm_param.num_groups for layer in by_type(after, "GroupNorm")]
    assert groups == [2, 4, 4, 2]
    assert after.layer[8] == net.layer[8]


def test_refusals() -> None:
    norm = 'layer { name: "n" type: "BatchNorm" bottom: "x" top: "n" }'
    with pytest.raises(ValueError, match="layer 'n': the channels of its bottom 'x' cannot be"):
        with_group_norm(parse(norm))
    with pytest.raises(ValueError, match="num_groups must be at least 1, got 0"):
        with_group_norm(parse(norm), 0)
    with pytest.raises(ValueError, match="old format"):
        with_group_norm(parse('layers { name: "n" type: RELU }'))
