"""The names that SSD's scripts import, and the multibox head."""

from __future__ import annotations

import json
import math
from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe import model_libs
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.golden import GOLDEN


def recorded(folder: str, name: str, message: Any) -> Any:
    text = (GOLDEN / "nets" / folder / f"{name}.json").read_text(encoding="utf-8")
    return ParseDict(json.loads(text), message)


def test_star_import_gives_what_scripts_use() -> None:
    names: dict[str, Any] = {}
    exec("from caffe.model_libs import *", names)
    assert names["L"] is caffe.layers
    assert names["P"] is caffe.params
    assert names["math"] is math
    expected = {
        "ConvBNLayer",
        "CreateAnnotatedDataLayer",
        "CreateMultiBoxHead",
        "DSOD300_V3_Body",
        "UnpackVariable",
        "add_bl_layer",
        "bl_layer",
        "caffe_pb2",
        "check_if_exist",
        "make_if_not_exist",
        "os",
        "transition",
    }
    assert expected <= names.keys()


def test_paths(tmp_path: Any) -> None:
    folder = str(tmp_path / "a" / "b")
    assert not model_libs.check_if_exist(folder)
    model_libs.make_if_not_exist(folder)
    model_libs.make_if_not_exist(folder)
    assert model_libs.check_if_exist(folder)


def test_unpack_variable() -> None:
    assert model_libs.UnpackVariable(3, 2) == [3, 3]
    assert model_libs.UnpackVariable([3], 2) == [3, 3]
    assert model_libs.UnpackVariable([3, 5], 2) == [3, 5]
    with pytest.raises(ValueError, match=r"one value or 2, got \[3, 5, 7\]"):
        model_libs.UnpackVariable([3, 5, 7], 2)


def head_of(net: Any) -> list[Any]:
    """Return the layers from the first that belongs to the head up to `mbox_priorbox`."""
    names = [layer.name for layer in net.layer]
    start = next(i for i, name in enumerate(names) if name.endswith(("_norm", "_mbox_loc")))
    return list(net.layer[start : names.index("mbox_priorbox") + 1])


def test_head_of_vgg_ssd() -> None:
    sources = ["conv4_3", "fc7", "conv6_2", "conv7_2", "conv8_2", "conv9_2"]
    n = caffe.NetSpec()
    for name in ("data", *sources):
        n[name] = L.Input()
    mbox = CreateMultiBoxHead(
        n,
        num_classes=21,
        from_layers=sources,
        use_batchnorm=False,
        min_sizes=[30, 60, 111, 162, 213, 264],
        max_sizes=[60, 111, 162, 213, 264, 315],
        aspect_ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        steps=[8, 16, 32, 64, 100, 300],
        normalizations=[20, -1, -1, -1, -1, -1],
        prior_variance=[0.1, 0.1, 0.2, 0.2],
        clip=False,
        kernel_size=3,
        pad=1,
    )
    assert mbox == [n.mbox_loc, n.mbox_conf, n.mbox_priorbox]
    assert head_of(n.to_proto()) == head_of(
        recorded("ssd_pascal", "train", caffe_pb2.NetParameter())
    )


def small_head(**keywords: Any) -> Any:
    n = caffe.NetSpec()
    n.data, n.fine, n.coarse = L.Input(), L.Input(), L.Input()
    given = {"num_classes": 4, "from_layers": ["fine", "coarse"], "min_sizes": [8, 16]}
    CreateMultiBoxHead(n, **{**given, **keywords})
    return n.to_proto()


def layer_named(net: Any, name: str) -> Any:
    return next(layer for layer in net.layer if layer.name == name)


@pytest.mark.parametrize(
    ("keywords", "num_priors"),
    [
        ({}, 1),
        ({"max_sizes": [16, 32]}, 2),
        ({"aspect_ratios": [[2, 3], 2]}, 5),
        ({"aspect_ratios": [[2, 3], 2], "flip": False}, 3),
        ({"min_sizes": [[4, 8], 16], "max_sizes": [[8, 16], 32], "aspect_ratios": [2, 2]}, 8),
    ],
)
def test_outputs_follow_from_the_priors(keywords: dict[str, Any], num_priors: int) -> None:
    net = small_head(**keywords)
    loc = layer_named(net, "fine_mbox_loc").convolution_param
    conf = layer_named(net, "fine_mbox_conf").convolution_param
    assert (loc.num_output, conf.num_output) == (num_priors * 4, num_priors * 4)
    net = small_head(share_location=False, use_objectness=True, **keywords)
    assert layer_named(net, "fine_mbox_loc").convolution_param.num_output == num_priors * 4 * 4
    objectness = layer_named(net, "fine_mbox_objectness").convolution_param
    assert objectness.num_output == num_priors * 2
    assert net.layer[-1].name == "mbox_objectness"


def test_names_of_normalised_and_intermediate_maps() -> None:
    net = small_head(
        normalizations=[20, -1], inter_layer_depth=[0, 6], conf_postfix="_c", loc_postfix="_l"
    )
    names = [layer.name for layer in net.layer]
    assert "fine_norm_mbox_loc_l_flat" in names
    assert "coarse_inter_mbox_conf_c_perm" in names
    assert "coarse_inter_relu" in names
    assert "coarse_inter_mbox_priorbox" in names
    assert list(layer_named(net, "coarse_inter_mbox_loc_l").bottom) == ["coarse_inter"]


def test_prior_fields() -> None:
    net = small_head(steps=[[4, 6], 8], img_height=64, img_width=96, offset=0.25)
    fine = layer_named(net, "fine_mbox_priorbox").prior_box_param
    assert (fine.step_h, fine.step_w, fine.HasField("step")) == (4, 6, False)
    assert (fine.img_h, fine.img_w, fine.HasField("img_size")) == (64, 96, False)
    assert (fine.clip, fine.HasField("flip"), fine.offset) == (True, False, 0.25)
    assert list(fine.variance) == [pytest.approx(0.1)]
    assert layer_named(net, "coarse_mbox_priorbox").prior_box_param.step == 8


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"from_layers": []}, "at least one map"),
        ({"from_layers": ["fine", "middle"]}, "no top 'middle'; it has data, fine, coarse"),
        ({"data_layer": "image"}, "no top 'image'"),
        ({"min_sizes": [8]}, "min_sizes has 1 values for 2 from_layers"),
        ({"steps": [8, 16, 32]}, "steps has 3 values for 2"),
        ({"max_sizes": [[8, 9], 16]}, "fine: 2 max_sizes for 1 min_sizes"),
        ({"epsilon": 0.1}, "unknown keyword 'epsilon'; allowed: eps, moving"),
    ],
)
def test_head_complaints(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_head(**keywords)


def test_conv_bn_layer_variants() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    model_libs.ConvBNLayer(
        n, "data", "a", True, True, 6, [3, 5], [1, 2], 1, use_scale=False, lr_mult=2, eps=0.01
    )
    model_libs.ConvBNLayer(n, "a", "b", True, False, 6, 3, 1, 1, dilation=2, use_global_stats=True)
    net = n.to_proto()
    assert [layer.name for layer in net.layer[1:]] == [
        "a", "a_bn", "a_bias", "a_relu", "b", "b_bn", "b_scale",
    ]  # fmt: skip
    conv = net.layer[1].convolution_param
    assert (conv.kernel_h, conv.kernel_w, conv.pad_h, conv.pad_w) == (3, 5, 1, 2)
    assert net.layer[1].param[0].lr_mult == 2
    assert net.layer[2].batch_norm_param.eps == pytest.approx(0.01)
    assert list(net.layer[5].convolution_param.dilation) == [2]
    assert net.layer[6].batch_norm_param.use_global_stats
    assert [param.lr_mult for param in net.layer[7].param] == [0, 0]
