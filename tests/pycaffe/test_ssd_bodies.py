"""VGG16 and ZFNet as bodies of SSD: the recorded net, names, sizes, shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe.models import ssd, vgg
from caffe.models.vgg import (
    TINY_VGG,
    VGG_SSD300,
    VGG_SSD512,
    AddExtraLayers,
    VGGBody,
    VGGNetBody,
    ZFNetBody,
)
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.bodies import (
    body_layers,
    body_net,
    deploy,
    load,
    made,
    recorded_body,
    shapes_of,
    types_of,
)
from tests.support.counting import count_floats
from tests.support.golden import GOLDEN

FOLDER = GOLDEN / "nets" / "ssd_pascal"
SSD300 = ssd.DetectorSpec(
    body=VGG_SSD300,
    steps=(8, 16, 32, 64, 100, 300),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    normalizations=(20, -1, -1, -1, -1, -1),
    head_batch_norm=False,
)

# VGG16 -------------------------------------------------------------------------------------------


def test_ssd300_is_the_recorded_body() -> None:
    have = body_layers(VGG_SSD300)
    assert len(have) == 51
    assert have == recorded_body("ssd_pascal")


def test_function_calls_of_the_original_script() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    VGGNetBody(n, "data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    AddExtraLayers(n, use_batchnorm=False, lr_mult=1)
    assert list(n.to_proto().layer)[1:] == recorded_body("ssd_pascal")


def test_ssd300_has_the_recorded_blobs(tmp_path: Path) -> None:
    """The generated body under the recorded head, as the reference built it."""
    want = json.loads((FOLDER / "shapes.json").read_text())
    message = ParseDict(json.loads((FOLDER / "deploy.json").read_text()), caffe_pb2.NetParameter())
    head = list(message.layer)[len(recorded_body("ssd_pascal")) :]
    del message.layer[:]
    message.layer.extend([*body_layers(VGG_SSD300), *head])
    message.layer[-1].detection_output_param.ClearField("save_output_param")
    net = load(message, tmp_path)
    assert [[name, blob.shape] for name, blob in net.blobs.items()] == want["blobs"]
    assert [[layer["name"], *layer["params"]] for layer in want["layers"] if layer["params"]] == [
        [name, *(blob.shape for blob in blobs)] for name, blobs in net.params.items()
    ]
    assert want["total_parameter_floats"] == 26_285_486


def test_ssd300_counts(tmp_path: Path) -> None:
    assert count_floats(deploy(SSD300)) == 26_285_486
    net = load(deploy(SSD300), tmp_path)
    assert net.blobs["mbox_priorbox"].shape == [1, 2, 4 * 8732]


def test_ssd512(tmp_path: Path) -> None:
    """Seven maps down to one pixel, with the published number of priors."""
    detector = SSD300._replace(
        body=VGG_SSD512,
        image_size=512,
        steps=(8, 16, 32, 64, 128, 256, 512),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        normalizations=(20, *[-1] * 6),
    )
    net = load(deploy(detector), tmp_path)
    widths, sizes = (512, 1024, 512, 256, 256, 256, 256), (64, 32, 16, 8, 4, 2, 1)
    assert shapes_of(net, *VGG_SSD512.sources) == [
        (width, size, size) for width, size in zip(widths, sizes, strict=True)
    ]
    assert net.blobs["mbox_priorbox"].shape == [1, 2, 4 * 24564]
    n = caffe.NetSpec()
    n.data = L.Input()
    VGGNetBody(n, "data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    AddExtraLayers(n, use_batchnorm=False, image_size=512)
    assert list(n.to_proto().layer)[1:] == body_layers(VGG_SSD512)


@pytest.mark.parametrize("backbone", [False, True])
@pytest.mark.parametrize("extras", [False, True])
def test_batch_norm_where_asked_for(backbone: bool, extras: bool) -> None:
    """The grid of ScratchDet's first table; names of all other layers stay."""
    body = VGGBody(batch_norm=backbone, extras_batch_norm=extras)
    layers = body_layers(body)
    for at, layer in enumerate(layers):
        if layer.type != "Convolution":
            continue
        in_extras = layer.name.startswith(("conv6", "conv7", "conv8", "conv9"))
        following = types_of(layers[at + 1 : at + 4])
        if extras if in_extras else backbone:
            assert following == ["BatchNorm", "Scale", "ReLU"]
            assert not layer.convolution_param.bias_term
            assert len(layer.param) == 1
            assert all(list(norm.top) == [layer.name] for norm in layers[at + 1 : at + 4])
        else:
            assert following[0] == "ReLU"
            assert layer.convolution_param.bias_term
    plain = [layer.name for layer in layers if layer.type not in ("BatchNorm", "Scale")]
    assert plain == [layer.name for layer in body_layers(VGG_SSD300)]


def test_backbone_batch_norm_layers() -> None:
    conv, norm, scale, relu = body_layers(VGGBody(batch_norm=True))[:4]
    assert [layer.name for layer in (conv, norm, scale, relu)] == [
        "conv1_1", "conv1_1_bn", "conv1_1_scale", "relu1_1",
    ]  # fmt: skip
    assert conv.convolution_param.weight_filler.type == "xavier"
    assert [param.lr_mult for param in norm.param] == [0, 0, 0]
    assert [(param.lr_mult, param.decay_mult) for param in scale.param] == [(1, 0), (1, 0)]


def test_classifier_has_its_published_parameters() -> None:
    """VGG16 has 138,357,544, of which fc8's 1000 classes take 4,097,000."""
    net = made(VGGNetBody, 1, 3, 224, 224, fully_conv=True)
    assert count_floats(net) == 138_357_544 - 4_097_000
    assert types_of(net.layer)[-6:] == [
        "Convolution", "ReLU", "Dropout", "Convolution", "ReLU", "Dropout",
    ]  # fmt: skip


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """VGG16 with 2 to 6 channels; its fc6 and fc7 can be made narrow too."""
    monkeypatch.setattr(vgg, "VGG16_WIDTHS", (2, 3, 4, 5, 6))
    return monkeypatch


def test_inner_products(tmp_path: Path, narrow: pytest.MonkeyPatch) -> None:
    narrow.setattr(vgg, "VGG16_FC_WIDTH", {False: 7, True: 7})
    net = load(made(VGGNetBody, 1, 3, 64, 96), tmp_path)
    assert shapes_of(net, "pool5", "fc6", "fc7") == [(6, 2, 3), (7,), (7,)]


@pytest.mark.parametrize(
    ("dilated", "reduced", "fc6"),
    [
        (False, False, (4096, 7, 3, 1)),
        (False, True, (1024, 3, 3, 3)),
        (True, False, (4096, 7, 6, 2)),
        (True, True, (1024, 3, 6, 6)),
    ],
)
@pytest.mark.parametrize("dilate_pool4", [False, True])
def test_fc6_of_vgg(
    dilated: bool,
    reduced: bool,
    fc6: tuple[int, ...],
    dilate_pool4: bool,
    tmp_path: Path,
    narrow: pytest.MonkeyPatch,
) -> None:
    """Padded so that it keeps the size, whatever its kernel and dilation."""
    keywords = {"fully_conv": True, "dilated": dilated, "reduced": reduced,
                "dilate_pool4": dilate_pool4}  # fmt: skip
    n = made(VGGNetBody, 1, 3, 64, 96, **keywords)
    param = next(layer for layer in n.layer if layer.name == "fc6").convolution_param
    factor = 2 if dilate_pool4 else 1
    num_output, kernel_size, pad, dilation = fc6
    assert (param.num_output, param.kernel_size[0]) == (num_output, kernel_size)
    assert (param.pad[0], param.dilation[0]) == (factor * pad, factor * dilation)
    rows, columns = (8, 12) if dilate_pool4 else (4, 6)
    if not dilated:
        rows, columns = rows // 2, columns // 2
    narrow.setattr(vgg, "VGG16_FC_WIDTH", {False: 9, True: 9})
    net = load(made(VGGNetBody, 1, 3, 64, 96, **keywords), tmp_path)
    assert shapes_of(net, "fc6", "fc7") == [(9, rows, columns)] * 2


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("dilated", [False, True])
def test_convolutions_in_place_of_pooling(dilated: bool, tmp_path: Path) -> None:
    message = made(VGGNetBody, 1, 3, 64, 96, nopool=True, fully_conv=True, reduced=True,
                   dilated=dilated, dilate_pool4=True)  # fmt: skip
    assert "Pooling" not in types_of(message.layer)
    net = load(message, tmp_path)
    last = (6, 4, 6) if dilated else (6, 2, 3)
    names = ("conv1_3", "conv2_3", "conv3_4", "conv4_4", "conv5_4")
    assert shapes_of(net, *names) == [(2, 32, 48), (3, 16, 24), (4, 8, 12), (5, 4, 6), last]


def test_body_ends_before_fc() -> None:
    assert made(VGGNetBody, 1, 3, 64, 96, need_fc=False).layer[-1].name == "relu5_3"


def test_frozen_layers() -> None:
    net = made(VGGNetBody, 1, 3, 64, 96, freeze_layers=["conv1_1", "conv2_2"])
    rates = {
        layer.name: [param.lr_mult for param in layer.param] for layer in net.layer if layer.param
    }
    assert [name for name, rate in rates.items() if rate == [0, 0]] == ["conv1_1", "conv2_2"]


@pytest.mark.parametrize(
    ("generate", "keywords", "message"),
    [
        (VGGNetBody, {"freeze_layers": ["conv1_9"]}, "no layer 'conv1_9'; it has data, conv1_1"),
        (ZFNetBody, {"need_fc": False, "need_fc8": True}, "need_fc8 needs need_fc"),
    ],
)
def test_complaints(generate: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(generate, 1, 3, 64, 96, **keywords)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 16)}, r"widths must be 5 numbers, got \(8, 16\)"),
        ({"depths": (1, 2, 3)}, r"depths must be 5 numbers .*, got \(1, 2, 3\)"),
        ({"depths": (1, 2, 3, 0, 1)}, r"at least 1, got \(1, 2, 3, 0, 1\)"),
    ],
)
def test_complaints_of_bodies(fields: dict[str, Any], message: str) -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(ValueError, match=message):
        VGGBody(**fields).add_to(n)


def test_extra_layers_of_another_size() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(ValueError, match="image_size must be 300 or 512, got 320"):
        AddExtraLayers(n, image_size=320)


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [(96, 128, [(12, 16), (6, 8), (3, 4), (2, 2)]), (128, 96, [(16, 12), (8, 6), (4, 3), (2, 2)])],
)
def test_tiny_vgg(height: int, width: int, sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    net = load(body_net(TINY_VGG, 1, 3, height, width), tmp_path)
    assert [shape[1:] for shape in shapes_of(net, *TINY_VGG.sources)] == sizes


def test_depths_and_filler() -> None:
    body = VGGBody(depths=(1, 2, 1, 4, 2), filler="msra")
    assert body.sources[:2] == ("conv4_4", "fc7")
    convolutions = [layer for layer in body_layers(body) if layer.type == "Convolution"]
    names = [layer.name for layer in convolutions[:12]]
    stages = [
        f"conv{stage}_{i + 1}" for stage, depth in enumerate(body.depths, 1) for i in range(depth)
    ]
    assert names == [*stages, "fc6", "fc7"]
    fillers = [layer.convolution_param.weight_filler.type for layer in convolutions]
    assert fillers == ["msra"] * 12 + ["xavier"] * 8  # the extra layers keep theirs


# ZFNet -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("reduced", [False, True])
def test_zf(dilated: bool, reduced: bool, tmp_path: Path) -> None:
    """Its convolutions by hand: 7x7x3x96, 5x5x96x256, 3x3x256x384, 3x3x384x384, 3x3x384x256."""
    weights = (7 * 7 * 3 * 96, 5 * 5 * 96 * 256, 9 * 256 * 384, 9 * 384 * 384, 9 * 384 * 256)
    floats = sum(weights) + 96 + 256 + 384 + 384 + 256
    message = made(ZFNetBody, 1, 3, 188, 220, need_fc=False)
    assert types_of(message.layer)[1:9] == ["Convolution", "ReLU", "LRN", "Pooling"] * 2
    net = load(message, tmp_path)
    assert sum(blob.count for blobs in net.params.values() for blob in blobs) == floats
    assert shapes_of(net, "norm1", "norm2", "conv5") == [
        (96, 94, 110), (256, 24, 28), (256, 13, 15),
    ]  # fmt: skip
    if not reduced:
        return  # 6x6 with its padding does not keep the size, and has 38 million weights
    message = made(ZFNetBody, 1, 3, 188, 220, fully_conv=True, reduced=True, dilated=dilated,
                   need_fc8=True)  # fmt: skip
    net = load(message, tmp_path)
    rows, columns = (13, 15) if dilated else (7, 8)
    assert shapes_of(net, "fc6", "prob") == [(1024, rows, columns), (1000, rows, columns)]


@pytest.mark.parametrize(("dilated", "fc6"), [(False, (4096, 6, 2, [])), (True, (4096, 6, 5, [2]))])
def test_full_fc6_of_zf(dilated: bool, fc6: tuple[Any, ...]) -> None:
    net = made(ZFNetBody, 1, 3, 224, 224, fully_conv=True, dilated=dilated)
    param = next(layer for layer in net.layer if layer.name == "fc6").convolution_param
    geometry = (param.num_output, param.kernel_size[0], param.pad[0], list(param.dilation))
    assert geometry == fc6


def test_model_libs_offers_the_originals_names() -> None:
    names: dict[str, Any] = {}
    exec("from caffe.model_libs import *", names)
    expected = {
        "InceptionTower",
        "InceptionV3Body",
        "ResBody",
        "ResNet101Body",
        "ResNet152Body",
        "ResNet50Body",
        "Resnet34rootV2_res",
        "VGGNetBody",
        "ZFNetBody",
    }
    assert expected <= names.keys()
