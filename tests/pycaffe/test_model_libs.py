"""The names that SSD's scripts import, and the published nets against the recorded ones."""

from __future__ import annotations

import json
import math
from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe import model_libs
from caffe.models import datasets, dsod_recipes, ssd
from caffe.models.dsod import DSOD300, DSOD300_LITE, DSOD300_SMALLEST, TINY, DenseBody
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.models.recipe import Places, Recipe, make_nets, make_solver
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.golden import GOLDEN, needs_golden

RECIPES = {
    "DSOD300_pascal": dsod_recipes.dsod_pascal,
    "DSOD300_pascal++": dsod_recipes.dsod_pascal_plus,
    "DSOD300_coco": dsod_recipes.dsod_coco,
}


def recorded(folder: str, name: str, message: Any) -> Any:
    text = (GOLDEN / "nets" / folder / f"{name}.json").read_text(encoding="utf-8")
    return ParseDict(json.loads(text), message)


def with_placeholders(recipe: Recipe) -> Recipe:
    data = recipe.dataset._replace(train_data="<train_data>", test_data="<test_data>")
    return recipe._replace(dataset=data)


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


@needs_golden
@pytest.mark.parametrize("kind", ["train", "test", "deploy"])
@pytest.mark.parametrize("folder", RECIPES)
def test_published_nets(folder: str, kind: str) -> None:
    nets = make_nets(with_placeholders(RECIPES[folder]()), "<output_dir>")
    assert nets[kind] == recorded(folder, kind, caffe_pb2.NetParameter())


@needs_golden
@pytest.mark.parametrize("folder", RECIPES)
def test_published_solvers(folder: str) -> None:
    expected = recorded(folder, "solver", caffe_pb2.SolverParameter())
    model_dir = expected.train_net.rpartition("/")[0]
    places = Places(model_dir, model_dir, "jobs", "results")
    assert make_solver(RECIPES[folder](), places, gpus=list(range(8))) == expected


def head_of(net: Any) -> list[Any]:
    """Return the layers from the first that belongs to the head up to `mbox_priorbox`."""
    names = [layer.name for layer in net.layer]
    start = next(i for i, name in enumerate(names) if name.endswith(("_norm", "_mbox_loc")))
    return list(net.layer[start : names.index("mbox_priorbox") + 1])


@needs_golden
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


@pytest.mark.parametrize(
    ("body", "transitions"),
    [
        (DSOD300, (416, 800, 1184, 256)),
        (DSOD300_LITE, (320, 576, 832, 256)),
        (DSOD300_SMALLEST, (224, 352, 480, 256)),
        (DenseBody(stem=(32, 32, 64), bottleneck=12, growth=16, compression=0.5),
         (80, 104, 116, 256)),
    ],
)  # fmt: skip
def test_transition_widths(body: DenseBody, transitions: tuple[int, ...]) -> None:
    assert body.transitions == transitions


def test_body_complaints() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(ValueError, match=r"blocks must be 3 or more .*\(6, 8\)"):
        DenseBody(blocks=(6, 8)).add_to(n)
    with pytest.raises(ValueError, match="stem must have"):
        DenseBody(stem=()).add_to(n)
    with pytest.raises(ValueError, match="extras may be up to 6"):
        DenseBody(extras=(8,) * 7).add_to(n)


def count_floats(net: Any) -> int:
    """Add up the parameters of a net of this family from its layers' fields."""
    channels = {"data": 3}
    total = 0
    for layer in net.layer:
        bottoms = [channels.get(name, 0) for name in layer.bottom]
        width = sum(bottoms) if layer.type == "Concat" else next(iter(bottoms), 0)
        if layer.type == "Convolution":
            param = layer.convolution_param
            kernel = param.kernel_size[0] ** 2
            total += param.num_output * bottoms[0] * kernel
            assert not param.bias_term
            width = param.num_output
        total += {"BatchNorm": 2 * width + 1, "Scale": 2 * width, "Normalize": width}.get(
            layer.type, 0
        )
        channels.update(dict.fromkeys(layer.top, width))
    return total


@pytest.mark.parametrize(
    ("variant", "floats"),
    [("DSOD300", 14_795_828), ("lite", 10_436_854), ("smallest", 5_872_372)],
)
def test_parameter_totals(variant: str, floats: int) -> None:
    nets = make_nets(dsod_recipes.dsod_pascal(variant), "results")
    assert count_floats(nets["deploy"]) == floats


@needs_golden
def test_parameter_totals_are_the_recorded_ones() -> None:
    nets = GOLDEN / "nets"
    shapes = json.loads((nets / "DSOD300_pascal" / "shapes.json").read_text())
    assert shapes["total_parameter_floats"] == 14_795_828
    for folder, floats in (("DSOD300_lite", 10_436_854), ("DSOD300_smallest", 5_872_372)):
        facts = json.loads((nets / folder / "facts.json").read_text())
        assert facts["computed"]["parameter_floats"]["value"] == floats


def test_engine_counts_the_same_parameters(tmp_path: Any) -> None:
    recipe = dsod_recipes.dsod(datasets.VOC0712, dsod_recipes.dsod_pascal().schedule, "tiny")
    deploy = make_nets(recipe, "")["deploy"]
    for layer in deploy.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    path = tmp_path / "deploy.prototxt"
    path.write_text(str(deploy))
    net = caffe.Net(str(path), caffe.TEST)
    counted = sum(blob.data.size for blobs in net.params.values() for blob in blobs)
    assert counted == count_floats(deploy)
    maps = [net.blobs[name].data.shape for name in TINY.sources]
    assert [shape[2:] for shape in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_prior_sizes_of_few_maps() -> None:
    lowest, highest = datasets.VOC0712.prior_ratios.sizes(100, 4)
    assert lowest == [10, 20, 55, 90]
    assert highest == [20, 55, 90, 125]
    with pytest.raises(ValueError, match="at least 3 maps, got 2"):
        datasets.VOC0712.prior_ratios.sizes(100, 2)


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of DSOD300, lite.* got 'huge'"):
        dsod_recipes.dsod_coco("huge")


def test_deploy_net_leaves_the_test_net_alone() -> None:
    recipe = dsod_recipes.dsod_pascal("tiny")
    test = ssd.test_net(recipe.detector, recipe.dataset, 2, "results")
    before = len(test.layer)
    deploy = ssd.deploy_net(recipe.detector, test)
    assert len(test.layer) == before == len(deploy.layer) + 2
