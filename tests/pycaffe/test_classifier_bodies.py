"""ResNet and Inception V3 as bodies of SSD: names of released layers, sizes, shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe.models import ssd
from caffe.models.inception import InceptionBody, InceptionTower, InceptionV3Body
from caffe.models.resnet import (
    RESNET50_SSD,
    RESNET101_SSD,
    RESNET152_SSD,
    AddPooledExtraLayers,
    ResNet50Body,
    ResNet101Body,
    ResNet152Body,
    ResNetBody,
)
from caffe.proto import caffe_pb2

from tests.support.bodies import body_net, deploy, load, made, shapes_of, types_of

STEPS = (8, 16, 32, 64, 100, 300)
SIX_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
RESNETS = {50: ResNet50Body, 101: ResNet101Body, 152: ResNet152Body}

# ResNet ------------------------------------------------------------------------------------------


def numbered(stage: int, last: int) -> list[str]:
    return [f"{stage}a", *[f"{stage}b{index}" for index in range(1, last + 1)]]


# As in the released prototxt files.
BLOCKS = {
    50: ["2a", "2b", "2c", "3a", "3b", "3c", "3d", "4a", "4b", "4c", "4d", "4e", "4f",
         "5a", "5b", "5c"],
    101: ["2a", "2b", "2c", *numbered(3, 3), *numbered(4, 22), "5a", "5b", "5c"],
    152: ["2a", "2b", "2c", *numbered(3, 7), *numbered(4, 35), "5a", "5b", "5c"],
}  # fmt: skip


@pytest.mark.parametrize("depth", RESNETS)
def test_resnet_layer_names(depth: int) -> None:
    """Weights of the released classifiers are found by these names."""
    want = ["conv1", "bn_conv1", "scale_conv1"]
    for block in BLOCKS[depth]:
        first = ["branch1"] if block.endswith("a") else []
        for branch in [*first, "branch2a", "branch2b", "branch2c"]:
            want += [f"{kind}{block}_{branch}" for kind in ("res", "bn", "scale")]
    net = made(RESNETS[depth], 1, 3, 224, 224)
    learnt = ("Convolution", "BatchNorm", "Scale")
    assert [layer.name for layer in net.layer if layer.type in learnt] == want
    # The name counts convolutions and the classes' layer, but no shortcuts.
    on_the_way = [name for name in want if name[:3] in ("res", "con") and "branch1" not in name]
    assert len(on_the_way) == depth - 1


@pytest.mark.parametrize(
    ("depth", "convolutions", "channels"),
    [
        # 25,557,032, 44,549,160 and 60,192,808 parameters with 2,049,000 for the classes and two
        # for each channel of batch norm; the released ResNet-50 has 64 biases more.
        (50, 25_557_032 - 2_049_000 - 2 * 26_560 + 64, 26_560),
        (101, 44_549_160 - 2_049_000 - 2 * 52_672, 52_672),
        (152, 60_192_808 - 2_049_000 - 2 * 75_712, 75_712),
    ],
)
def test_resnet_counts_and_shapes(
    depth: int, convolutions: int, channels: int, tmp_path: Path
) -> None:
    net = load(made(RESNETS[depth], 1, 3, 300, 300), tmp_path)

    def count(kind: str) -> int:
        return sum(blob.count for layer in net.layers for blob in layer.blobs if layer.type == kind)

    norms = len([layer for layer in net.layers if layer.type == "BatchNorm"])
    assert count("Convolution") == convolutions
    assert count("Scale") == 2 * channels
    assert count("BatchNorm") == 2 * channels + norms
    ends = [f"res{[name for name in BLOCKS[depth] if name[0] == stage][-1]}" for stage in "2345"]
    assert shapes_of(net, "conv1", "pool1", *ends, "pool5") == [
        (64, 150, 150), (64, 75, 75), (256, 75, 75), (512, 38, 38), (1024, 19, 19),
        (2048, 10, 10), (2048, 1, 1),
    ]  # fmt: skip


def test_resnet_block() -> None:
    """Bottoms and tops of the first block, its neighbour and the stride that follows."""
    net = made(ResNet101Body, 1, 3, 224, 224, use_pool5=False)
    layers = {layer.name: layer for layer in net.layer}
    assert list(layers["res2a"].bottom) == ["res2a_branch1", "res2a_branch2c"]
    assert list(layers["res2b"].bottom) == ["res2a", "res2b_branch2c"]
    assert list(layers["res3a_branch1"].bottom) == ["res2c"]
    assert list(layers["res2a_relu"].top) == ["res2a"]
    assert "res2a_branch2b_relu" in layers
    assert "res2a_branch2c_relu" not in layers
    for branch in ("branch1", "branch2a"):
        assert list(layers[f"res3a_{branch}"].convolution_param.stride) == [2]
    assert list(layers["res3a_branch2b"].convolution_param.stride) == [1]
    assert net.layer[-1].name == "res5c_relu"


def test_dilated_resnet() -> None:
    layers = {layer.name: layer for layer in made(
        ResNet101Body, 1, 3, 224, 224, use_dilation_conv5=True, eps=1e-5).layer}  # fmt: skip
    for block in ("5a", "5b", "5c"):
        middle = layers[f"res{block}_branch2b"].convolution_param
        assert (list(middle.dilation), list(middle.pad)) == ([2], [2])
        assert list(layers[f"res{block}_branch2a"].convolution_param.stride) == [1]
    assert not layers["res4b22_branch2b"].convolution_param.dilation
    assert layers["bn5c_branch2c"].batch_norm_param.eps == pytest.approx(1e-5)


def test_released_weights_load_by_name(tmp_path: Path) -> None:
    """conv1 of the released ResNet-50 has a bias; blobs of BatchNorm are three, of Scale two."""
    released = caffe_pb2.NetParameter()
    blobs = {
        "conv1": [(64, 3, 7, 7), (64,)],
        "bn_conv1": [(64,), (64,), (1,)],
        "scale_conv1": [(64,), (64,)],
        "res2a_branch1": [(256, 64, 1, 1)],
        "res4f_branch2b": [(256, 256, 3, 3)],
        "bn4f_branch2b": [(256,), (256,), (1,)],
    }
    kinds = {"bn": "BatchNorm", "sc": "Scale"}
    for name, shapes in blobs.items():
        layer = released.layer.add(name=name, type=kinds.get(name[:2], "Convolution"))
        for index, shape in enumerate(shapes):
            blob = layer.blobs.add()
            blob.shape.dim.extend(shape)
            blob.data.extend(np.full(np.prod(shape), len(name) + index, np.float32))
    weights = tmp_path / "released.caffemodel"
    weights.write_bytes(released.SerializeToString())
    net = load(made(ResNet50Body, 1, 3, 64, 96), tmp_path)
    net.copy_from(str(weights))
    for name, shapes in blobs.items():
        assert [tuple(blob.shape) for blob in net.params[name]] == shapes
        for index, blob in enumerate(net.params[name]):
            assert (blob.data == len(name) + index).all()


def test_resnet_ssd(tmp_path: Path) -> None:
    net = load(body_net(RESNET101_SSD, 1, 3, 321, 321), tmp_path)
    assert RESNET101_SSD.sources == (
        "res3b3_relu", "res5c_relu", "res5c_relu/conv1_2", "res5c_relu/conv2_2",
        "res5c_relu/conv3_2", "pool6",
    )  # fmt: skip
    assert shapes_of(net, "res3b3", "res5c", *RESNET101_SSD.sources[2:]) == [
        (512, 40, 40), (2048, 20, 20), (512, 10, 10), (256, 5, 5), (256, 3, 3), (256, 1, 1),
    ]  # fmt: skip
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3, 321, 321]})
    ResNet101Body(n, "data", use_pool5=False, use_dilation_conv5=True)
    assert AddPooledExtraLayers(n) is n
    assert n.to_proto() == body_net(RESNET101_SSD, 1, 3, 321, 321)


def test_first_maps_of_the_other_depths() -> None:
    assert (RESNET50_SSD.sources[0], RESNET152_SSD.sources[0]) == ("res3d_relu", "res3b7_relu")
    with pytest.raises(ValueError, match="must be one of 50, 101, 152, got 34"):
        body_net(ResNetBody(depth=34), 1, 3, 64, 96)


@pytest.mark.parametrize("body", [RESNET50_SSD, RESNET101_SSD, RESNET152_SSD, InceptionBody()])
def test_under_the_head(body: Any) -> None:
    """The head stands on every source; the names of its layers come from there."""
    detector = ssd.DetectorSpec(body, STEPS, SIX_RATIOS, normalizations=-1)
    names = {layer.name for layer in deploy(detector).layer}
    assert {f"{source}_mbox_loc_flat" for source in body.sources} <= names


# Inception V3 ------------------------------------------------------------------------------------


def test_inception_counts_and_shapes(tmp_path: Path) -> None:
    """21,802,784 parameters without the classes, of which 34,432 are means and variances."""
    net = load(made(InceptionV3Body, 1, 3, 299, 299, output_pred=True), tmp_path)

    def count(kind: str) -> int:
        return sum(blob.count for layer in net.layers for blob in layer.blobs if layer.type == kind)

    norms = len([layer for layer in net.layers if layer.type == "BatchNorm"])
    assert norms == 94
    assert count("Convolution") + count("Bias") + count("BatchNorm") - norms == 21_802_784
    assert count("BatchNorm") - norms == 34_432
    assert count("InnerProduct") == 2048 * 1008 + 1008
    joins = ["mixed", *[f"mixed_{index}" for index in range(1, 11)]]
    names = ("conv", "conv_1", "conv_2", "pool", "conv_3", "conv_4", "pool_1")
    assert shapes_of(net, *names) == [
        (32, 149, 149), (32, 147, 147), (64, 147, 147), (64, 73, 73), (80, 73, 73),
        (192, 71, 71), (192, 35, 35),
    ]  # fmt: skip
    assert shapes_of(net, *[f"{name}/join" for name in joins]) == [
        (256, 35, 35), (288, 35, 35), (288, 35, 35), *[(768, 17, 17)] * 5, (1280, 8, 8),
        (2048, 8, 8), (2048, 8, 8),
    ]  # fmt: skip
    assert shapes_of(net, "pool_3", "softmax_prob") == [(2048, 1, 1), (1008,)]


def test_inception_towers() -> None:
    layers = {layer.name: layer for layer in made(InceptionV3Body, 1, 3, 299, 299).layer}
    param = layers["mixed_6/tower_1/conv_2"].convolution_param
    assert (param.num_output, param.kernel_h, param.kernel_w) == (160, 1, 7)
    assert (param.pad_h, param.pad_w, param.stride_h, param.stride_w) == (0, 3, 1, 1)
    assert list(layers["mixed_6/join"].bottom) == [
        "mixed_6/conv", "mixed_6/tower/conv_2", "mixed_6/tower_1/conv_4", "mixed_6/tower_2/conv",
    ]  # fmt: skip
    assert list(layers["mixed_3/join"].bottom) == [
        "mixed_3/conv", "mixed_3/tower/conv_2", "mixed_3/pool",
    ]  # fmt: skip
    assert list(layers["mixed_10/join"].bottom) == [
        "mixed_10/conv", "mixed_10/tower/mixed/join", "mixed_10/tower_1/mixed/join",
        "mixed_10/tower_2/conv",
    ]  # fmt: skip
    assert list(layers["mixed_9/tower_1/mixed/conv_1"].bottom) == ["mixed_9/tower_1/conv_1"]
    pools = [layers[f"mixed_{index}/tower_2/pool"].pooling_param.pool for index in (9, 10)]
    assert pools == [caffe.params.Pooling.AVE, caffe.params.Pooling.MAX]
    assert "conv_bias" in layers
    assert "Scale" not in types_of(layers.values())


def test_tower_leaves_its_description_alone() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    description = [
        {"name": "pool", "pool": caffe.params.Pooling.AVE, "kernel_size": 3, "pad": 1},
        {"name": "conv", "num_output": 6, "kernel_size": [3, 5], "pad": [1, 2], "stride": 1},
    ]
    before = json.dumps(description)
    top = InceptionTower(n, "data", "tower", description, eps=0.01)
    assert json.dumps(description) == before
    assert top is n["tower/conv"]
    assert [layer.name for layer in n.to_proto().layer] == [
        "data", "tower/pool", "tower/conv", "tower/conv_bn", "tower/conv_bias", "tower/conv_relu",
    ]  # fmt: skip


def test_inception_ssd(tmp_path: Path) -> None:
    body = InceptionBody()
    net = load(body_net(body, 1, 3, 300, 268), tmp_path)
    assert shapes_of(net, *body.sources) == [
        (288, 35, 31), (768, 17, 15), (2048, 8, 7), (512, 4, 4), (256, 2, 2), (256, 1, 1),
    ]  # fmt: skip
