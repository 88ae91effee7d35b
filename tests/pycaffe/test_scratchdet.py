"""ScratchDet's bodies: the recorded nets, their siblings, and what residual blocks compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
import torch
from caffe import layers as L
from caffe.models import ssd
from caffe.models.datasets import COCO, VOC0712
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.models.scratchdet import (
    ROOT_RESNET18,
    ROOT_RESNET18_512,
    ROOT_RESNET34,
    ROOT_RESNET34_512,
    TINY_ROOT_RESNET,
    Resnet34rootV2_res,
    RootResNetBody,
)
from caffe.models.vgg import TINY_VGG
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.parity.test_forward import draw, rng
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
from tests.support.plain_forward import PlainForward

DETECTOR = ssd.DetectorSpec(
    body=ROOT_RESNET34,
    steps=(8, 16, 32, 64, 100, 300),
    aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    normalizations=-1,
    head_batch_norm=False,
)
RUNS = ("scratchdet_pascal", "scratchdet_coco")


# The published nets ------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", RUNS)
def test_body_is_the_recorded_one(folder: str) -> None:
    have = body_layers(ROOT_RESNET34)
    assert len(have) == 194
    assert have == recorded_body(folder)
    n = made(Resnet34rootV2_res, 1, 3, 300, 300)
    assert list(n.layer)[1:] == have


@pytest.mark.parametrize("folder", RUNS)
def test_net_has_the_recorded_blobs(folder: str, tmp_path: Path) -> None:
    """The generated body under the recorded head, as the reference built it."""
    path = GOLDEN / "nets" / folder
    want = json.loads((path / "shapes.json").read_text())
    message = ParseDict(json.loads((path / "deploy.json").read_text()), caffe_pb2.NetParameter())
    head = list(message.layer)[len(recorded_body(folder)) :]
    del message.layer[:]
    message.layer.extend([*body_layers(ROOT_RESNET34), *head])
    message.layer[-1].detection_output_param.ClearField("save_output_param")
    net = load(message, tmp_path)
    assert [[name, blob.shape] for name, blob in net.blobs.items()] == want["blobs"]
    shapes = [[name, *(blob.shape for blob in blobs)] for name, blobs in net.params.items()]
    assert shapes == [[each["name"], *each["params"]] for each in want["layers"] if each["params"]]
    assert net.blobs["mbox_priorbox"].shape == [1, 2, 4 * 8892]


def test_published_sizes() -> None:
    """VOC without batch norm in the head, COCO with it."""
    assert count_floats(deploy(DETECTOR, VOC0712)) == 24_570_584
    assert count_floats(deploy(DETECTOR._replace(head_batch_norm=True), COCO)) == 28_174_286


# Siblings ----------------------------------------------------------------------------------------


def test_18_layers(tmp_path: Path) -> None:
    """Half of the residual convolutions, at the same sizes."""
    assert ROOT_RESNET18.sources == (
        "conv4_4", "conv5_4", "conv6_2", "conv7_2", "conv8_2", "conv9_2",
    )  # fmt: skip
    layers = body_layers(ROOT_RESNET18)
    convolutions = [layer.name for layer in layers if layer.type == "Convolution"]
    per_stage = [
        sum(name.startswith(f"conv{stage}_") for name in convolutions) for stage in range(2, 10)
    ]
    assert per_stage == [4, 4, 4, 4, 2, 2, 2, 2]
    assert [name for name in convolutions if name.startswith("Conv")] == [
        f"Convolution{index}" for index in range(1, 6)
    ]
    net = load(body_net(ROOT_RESNET18, 1, 3, 300, 300), tmp_path)
    assert shapes_of(net, *ROOT_RESNET18.sources) == [
        (256, 38, 38), (512, 19, 19), (128, 10, 10), (128, 5, 5), (128, 5, 5), (128, 5, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("body", [ROOT_RESNET18_512, ROOT_RESNET34_512])
def test_512(body: RootResNetBody, tmp_path: Path) -> None:
    net = load(body_net(body, 1, 3, 512, 512), tmp_path)
    assert [shape[1] for shape in shapes_of(net, *body.sources)] == [64, 32, 16, 8, 4, 2, 1]


def test_a_wider_root_needs_a_convolution_in_the_first_shortcut() -> None:
    layers = body_layers(TINY_ROOT_RESNET._replace(root=(12,)))
    first = next(layer for layer in layers if layer.type == "Eltwise")
    assert list(first.bottom) == ["Convolution1", "conv2_2"]
    shortcut = next(layer for layer in layers if layer.name == "Convolution1")
    assert list(shortcut.bottom) == ["pool1"]
    assert not shortcut.convolution_param.stride


def test_the_last_sum_is_left_out() -> None:
    layers = body_layers(ROOT_RESNET34)
    assert layers[-1].name == "conv9_2"
    assert types_of(layers).count("Eltwise") == 19


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": (3, 4, 6)}, r"blocks must be 4 numbers, got \(3, 4, 6\)"),
        ({"widths": (64,)}, r"widths must be 4 numbers, got \(64,\)"),
        ({"root": ()}, "root must have at least one"),
        ({"extras": (128,)}, r"extras \(128,\) need as many strides, got \(2, 2, 1, 1\)"),
    ],
)
def test_complaints(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        body_net(ROOT_RESNET34._replace(**fields), 1, 3, 64, 96)


# What it computes --------------------------------------------------------------------------------


class PaddedForward(PlainForward):
    """Convolutions here may leave their stride out."""

    def convolution(self, layer: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        param = layer.convolution_param
        stride = param.stride[0] if param.stride else 1
        return torch.nn.functional.conv2d(x, weight, stride=stride, padding=param.pad[0])


def test_forward_of_a_small_one(tmp_path: Path) -> None:
    """Maps of an image that is not square equal those of one formula per layer type."""
    message = body_net(TINY_ROOT_RESNET._replace(blocks=(2, 1, 2, 1)), 2, 3, 72, 96)
    net = load(message, tmp_path)
    for name, layer in net.layer_dict.items():
        for index, blob in enumerate(layer.blobs):
            blob.data[...] = draw(layer.type, name, index, blob.data.shape)
    image = rng("image").standard_normal((2, 3, 72, 96))
    net.blobs["data"].data[...] = image
    net.forward()
    blobs = {name: [np.array(blob.data) for blob in group] for name, group in net.params.items()}
    # In-place tops would be overwritten in `tops`: the last value is what the blob holds, too.
    want = PaddedForward(message, blobs)(torch.from_numpy(image.astype(np.float32)).double())
    for name in ("conv4_4", "conv5_2", "conv6_2", "conv7_2"):
        have = net.blobs[name].data
        assert have.shape == tuple(want[name].shape)
        np.testing.assert_allclose(have, want[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("height", "width", "sizes"),
    [(96, 128, [(12, 16), (6, 8), (3, 4), (2, 2)]), (128, 96, [(16, 12), (8, 6), (4, 3), (2, 2)])],
)
def test_tiny(height: int, width: int, sizes: list[tuple[int, int]], tmp_path: Path) -> None:
    net = load(body_net(TINY_ROOT_RESNET, 1, 3, height, width), tmp_path)
    assert [shape[1:] for shape in shapes_of(net, *TINY_ROOT_RESNET.sources)] == sizes


def overfitting_net(body: Any) -> Any:
    """A body, its head and the loss on two fixed images."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 96, 128]})
    n.label = L.Input(shape={"dim": [1, 1, 2, 8]})
    body.add_to(n, "data")
    mbox = CreateMultiBoxHead(
        n,
        num_classes=3,
        from_layers=body.sources,
        min_sizes=[15, 30, 50, 70],
        max_sizes=[30, 50, 70, 90],
        aspect_ratios=[[2]] * 4,
        prior_variance=[0.1, 0.1, 0.2, 0.2],
        kernel_size=3,
        pad=1,
    )
    n.loss = L.MultiBoxLoss(
        *mbox,
        n.label,
        multibox_loss_param={"num_classes": 3, "use_difficult_gt": True},
        propagate_down=[True, True, False, False],
    )
    return n.to_proto()


@pytest.mark.parametrize("body", [TINY_ROOT_RESNET, TINY_VGG], ids=["root_resnet", "vgg"])
def test_tiny_bodies_learn_from_scratch(body: Any, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(str(overfitting_net(body)))
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt" base_lr: 0.05 momentum: 0.9 lr_policy: "fixed" '
        f'max_iter: 20 display: 0 random_seed: 3 snapshot_prefix: "{tmp_path}/tiny"'
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    solver.net.blobs["data"].data[...] = 50 * rng("two images").standard_normal((2, 3, 96, 128))
    rows = [(0, 1, 0, 0.1, 0.2, 0.5, 0.7, 0), (1, 2, 0, 0.3, 0.1, 0.9, 0.6, 0)]
    solver.net.blobs["label"].data[...] = np.array(rows)
    losses = []
    for _ in range(20):
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert np.isfinite(losses).all()
    assert min(losses[-5:]) < 0.5 * losses[0]
