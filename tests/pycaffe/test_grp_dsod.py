"""GRP-DSOD's bodies: the published nets, and what their gates and pyramid compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
import torch
from caffe import layers as L
from caffe.models import datasets, ssd
from caffe.models.dsod import DenseBody
from caffe.models.grp_dsod import (
    GRP_DSOD300,
    GRP_DSOD320,
    GRP_TINY,
    GatedPyramid,
    add_gate,
)
from caffe.models.multibox_head import CreateMultiBoxHead
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict
from torch import Tensor

from tests.parity.test_forward import draw, rng
from tests.support.golden import GOLDEN
from tests.support.plain_forward import PlainForward

FOLDER = GOLDEN / "nets" / "GRP_DSOD320_pascal"
FEW_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
MANY_RATIOS = ((1.6, 2, 3),) * 4 + ((1.6, 2),) * 2


def detector(body: Any, image_size: int, ratios: Any) -> ssd.DetectorSpec:
    steps = (8, 16, 32, 64, 100, image_size)
    return ssd.DetectorSpec(body=body, steps=steps, aspect_ratios=ratios, image_size=image_size)


GATE_LAYERS = ("map_fc", "InnerProduct1", "InnerProduct2")
RELEASED = detector(GRP_DSOD320, 320, MANY_RATIOS)


def recorded(kind: str) -> Any:
    message = ParseDict(json.loads((FOLDER / f"{kind}.json").read_text()), caffe_pb2.NetParameter())
    message.ClearField("name")
    return message


def deploy(made_by: ssd.DetectorSpec) -> Any:
    """The deploy net, without the files that its last layer would write."""
    test = ssd.test_net(made_by, datasets.VOC0712, batch_size=2, output_dir="results")
    net = ssd.deploy_net(made_by, test)
    net.layer[-1].detection_output_param.ClearField("save_output_param")
    return net


def load(message: Any, folder: Path, phase: int = caffe.TEST) -> caffe.Net:
    path = folder / "net.prototxt"
    path.write_text(str(message))
    caffe.set_random_seed(5)
    return caffe.Net(str(path), phase)


def body_net(body: GatedPyramid, *shape: int) -> Any:
    """A net of the body alone on images of a shape (N, 3, H, W)."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": list(shape)})
    body.add_to(n, from_layer="data")
    return n.to_proto()


# The published nets ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["train", "test", "deploy"])
def test_every_layer_is_the_published_one(kind: str) -> None:
    dataset = datasets.VOC0712._replace(train_data="<train_data>", test_data="<test_data>")
    if kind == "train":
        net = ssd.train_net(RELEASED, dataset, batch_size=6)
    else:
        net = ssd.test_net(RELEASED, dataset, batch_size=2, output_dir="<output_dir>")
    if kind == "deploy":
        net = ssd.deploy_net(RELEASED, net)
    want = recorded(kind)
    for have_layer, want_layer in zip(net.layer, want.layer, strict=True):
        assert have_layer == want_layer
    assert net == want


def test_deploy_net_is_built_as_recorded(tmp_path: Path) -> None:
    want = json.loads((FOLDER / "shapes.json").read_text())
    net = load(deploy(RELEASED), tmp_path)
    assert [[name, blob.shape] for name, blob in net.blobs.items()] == want["blobs"]
    have = [
        {
            "name": step.param.name,
            "type": step.param.type,
            "bottom": list(step.param.bottom),
            "top": list(step.param.top),
            "params": [blob.shape for blob in view.blobs],
        }
        for step, view in zip(net.engine.steps, net.layers, strict=True)
    ]
    keys = ("name", "type", "bottom", "top", "params")
    assert have == [{key: layer[key] for key in keys} for layer in want["layers"]]


@pytest.mark.parametrize(
    ("made_by", "floats", "deconvolutions", "statistics", "num_priors", "sizes"),
    [
        (detector(GRP_DSOD300, 300, FEW_RATIOS), 14_105_741, 300_492, 25_937, 8_744,
         [38, 19, 10, 5, 3, 2]),
        (detector(GRP_DSOD320, 320, FEW_RATIOS), 14_193_977, 388_728, 25_937, 9_602,
         [40, 20, 10, 5, 3, 2]),
        (RELEASED, 15_955_327, 388_728, 26_637, 17_078, [40, 20, 10, 5, 3, 2]),
    ],
    ids=["300", "320", "320*"],
)  # fmt: skip
def test_published_sizes(
    made_by: ssd.DetectorSpec,
    floats: int,
    deconvolutions: int,
    statistics: int,
    num_priors: int,
    sizes: list[int],
    tmp_path: Path,
) -> None:
    """The numbers of the recorded grp_variants.json."""
    net = load(deploy(made_by), tmp_path)

    def count(*types: str) -> int:
        return sum(
            blob.count for layer in net.layers for blob in layer.blobs if layer.type in types
        )

    assert sum(blob.count for layer in net.layers for blob in layer.blobs) == floats
    assert count("Deconvolution") == deconvolutions
    assert count("BatchNorm") == statistics
    assert net.blobs["mbox_priorbox"].shape == [1, 2, 4 * num_priors]
    assert made_by.body.channels == (1184, 513, 258, 258, 258, 256)
    assert [net.blobs[name].shape for name in made_by.body.sources] == [
        [1, width, size, size] for width, size in zip(made_by.body.channels, sizes, strict=True)
    ]


# Descriptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_size", "kernels"),
    [
        (320, (2, 2, 2, 1, 1)),
        (300, (2, 1, 2, 1, 1)),
        (512, (2, 2, 2, 2, 2)),
        (225, (1, 1, 2, 2, 2)),
    ],
)
def test_kernels_follow_from_the_image_size(image_size: int, kernels: tuple[int, ...]) -> None:
    assert GRP_DSOD320.for_image(image_size).kernels == kernels


@pytest.mark.parametrize("image_size", [32, 57, 96, 128])
def test_any_image_size(image_size: int, tmp_path: Path) -> None:
    body = GRP_TINY.for_image(image_size)
    net = load(body_net(body, 1, 3, image_size, image_size), tmp_path)
    sizes = [-(-image_size // 8)]
    while len(sizes) < body.num_maps:
        sizes.append(-(-sizes[-1] // 2))
    assert [net.blobs[name].shape for name in body.sources] == [
        [1, width, size, size] for width, size in zip(body.channels, sizes, strict=True)
    ]


def test_tiny_body_is_for_128_pixels() -> None:
    assert GRP_TINY.for_image(128) == GRP_TINY
    assert GRP_TINY.sources == tuple(f"Recurrent{level}_gate" for level in (1, 2, 3, 4))


def test_complaints() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(ValueError, match=r"kernels must be 5 numbers, .* got \(2, 2, 2\)"):
        GRP_DSOD320._replace(kernels=(2, 2, 2)).add_to(n)
    with pytest.raises(ValueError, match=r"each 1 or 2, got \(2, 2, 2, 1, 3\)"):
        GRP_DSOD320._replace(kernels=(2, 2, 2, 1, 3)).add_to(n)
    with pytest.raises(ValueError, match=r"blocks must be .*\(6, 8\)"):
        GatedPyramid(backbone=DenseBody(blocks=(6, 8))).add_to(n)
    with pytest.raises(ValueError, match="needs a backbone with a dense front end"):
        GatedPyramid(backbone=DenseBody(dense_front=False)).add_to(n)
    with pytest.raises(ValueError, match="data: a gate needs 16 channels or more, got 15"):
        add_gate(n, "data", 15)


# What they compute -------------------------------------------------------------------------------


def randomize(net: caffe.Net) -> dict[str, list[np.ndarray]]:
    """Draw all learnt blobs and return them; the deconvolutions keep their filler's."""
    random = np.random.default_rng(3)
    for layer in net.layers:
        for index, blob in enumerate(layer.blobs):
            if layer.type in ("Convolution", "InnerProduct"):
                spread = np.sqrt(2 / np.prod(blob.shape[1:])) if index == 0 else 0.5
                blob.data[...] = spread * random.standard_normal(blob.shape)
            elif layer.type == "BatchNorm":  # a factor of 2: the statistics are half of these
                blob.data[...] = random.uniform(1, 3, blob.shape) if index < 2 else 2
            elif layer.type == "Scale":
                blob.data[...] = random.uniform(0.2, 0.6, blob.shape)
    return {name: [blob.data.copy() for blob in blobs] for name, blobs in net.params.items()}


def test_gate_and_its_gradients(tmp_path: Path) -> None:
    """y = x + g * relu(c * x), with c and g from the mean of x, written out in PyTorch."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [3, 37, 5, 4]})
    n.map = L.Power(n.data)  # so that gradients reach a blob
    gated = add_gate(n, "map", 37)
    assert gated is n.map_gate
    message = n.to_proto()
    message.force_backward = True
    net = load(message, tmp_path)
    values = {
        name: [torch.from_numpy(blob).double().requires_grad_() for blob in blobs]
        for name, blobs in randomize(net).items()
    }
    random = np.random.default_rng(4)
    net.blobs["data"].data[...] = random.standard_normal((3, 37, 5, 4)) + 0.3
    net.blobs["map_gate"].diff[...] = random.standard_normal((3, 37, 5, 4))
    net.forward()
    net.backward()

    x = torch.from_numpy(net.blobs["data"].data).double().requires_grad_()
    (w, b), (w_c, b_c), (w_g, b_g) = (
        values[k] for k in ("map_fc", "InnerProduct1", "InnerProduct2")
    )
    assert list(w.shape) == [2, 37]
    hidden = torch.relu(x.mean(dim=(2, 3)) @ w.T + b)
    channels = torch.sigmoid(hidden @ w_c.T + b_c)
    image = torch.sigmoid(hidden @ w_g.T + b_g)
    assert 0.1 < float(image.detach().min()) < float(image.detach().max()) < 0.9
    y = x + image[:, :, None, None] * torch.relu(x * channels[:, :, None, None])
    y.backward(torch.from_numpy(net.blobs["map_gate"].diff).double())

    def same(have: np.ndarray, want: Tensor | None) -> None:
        assert want is not None
        np.testing.assert_allclose(have, want.detach().numpy(), rtol=1e-5, atol=1e-5)

    same(net.blobs["map_gate"].data, y)
    same(net.blobs["data"].diff, x.grad)
    for name, blobs in values.items():
        for have, want in zip(net.params[name], blobs, strict=True):
            same(have.diff, want.grad)


def test_tiny_body_equals_its_formulas(tmp_path: Path) -> None:
    """Engine, layer-by-layer face and the formulas agree on all maps, images higher than wide."""
    message = body_net(GRP_TINY, 2, 3, 128, 64)
    net = load(message, tmp_path)
    want_of = PlainForward(message, randomize(net))
    image = np.random.default_rng(6).standard_normal((2, 3, 128, 64)).astype(np.float32)
    net.blobs["data"].data[...] = image
    net.forward()
    with torch.no_grad():
        # Outputs only: the joined layers of the engine's program run.
        engine = net.engine.forward({"data": torch.from_numpy(image)}).blobs
        want = want_of(torch.from_numpy(image).double())
    assert sorted(engine) == sorted(GRP_TINY.sources)
    open_gates = [want[name] for name in want if name.startswith("Reshape")]
    assert all(float(gate.min()) > 0.01 and float(gate.max()) < 0.99 for gate in open_gates)
    for name in ("First", "Second", "Recurrent1", "Recurrent3", *GRP_TINY.sources):
        numbers = want[name].numpy()
        atol = 2e-6 * np.abs(numbers).max()
        np.testing.assert_allclose(net.blobs[name].data, numbers, rtol=2e-5, atol=atol)
        if name in engine:
            np.testing.assert_allclose(engine[name].numpy(), numbers, rtol=2e-5, atol=atol)


def test_blocks_may_be_more_or_fewer(tmp_path: Path) -> None:
    """Three blocks, a theta of a half that also sets the last transition, a 5x5 stem."""
    backbone = DenseBody(
        stem=(16,), stem_kernel=5, bottleneck=8, growth=32, blocks=(1, 2, 1),
        compression=0.5, last_transition=None, extras=(20,),
    )  # fmt: skip
    body = GatedPyramid(backbone=backbone, shallow=6, kernels=(2, 2))
    net = load(body_net(body, 1, 3, 96, 32), tmp_path)
    assert body.channels == (44 + 3 * 6, 3 * 38, 2 * 20)
    shapes = [net.blobs[name].shape for name in body.sources]
    assert shapes == [[1, 62, 12, 4], [1, 114, 6, 2], [1, 40, 3, 1]]
    assert net.params["Convolution1"][0].shape == [16, 3, 5, 5]


def test_released_net_runs_alike_as_a_whole_and_by_layer(tmp_path: Path) -> None:
    """The forward recipe of docs/fidelity.md, also with layers joined by the engine."""
    net = load(deploy(RELEASED), tmp_path)
    for name, layer in net.layer_dict.items():
        for index, blob in enumerate(layer.blobs):
            values = draw(layer.type, name, index, tuple(blob.shape))
            if values is not None:
                blob.data[...] = values
    image = (50 * rng("data/0").standard_normal((1, 3, 320, 320))).astype(np.float32)
    net.blobs["data"].data[...] = image
    net.forward()
    heads = [name for name in net.blobs if "mbox" in name and "split" not in name]
    fed = {"data": torch.from_numpy(image)}
    with torch.no_grad():
        kept = net.engine.forward(fed, keep=heads).blobs
        joined = net.engine.forward(fed).blobs["detection_out"].numpy()
    for name in heads:
        np.testing.assert_allclose(
            kept[name].numpy(), net.blobs[name].data, rtol=1e-4, atol=1e-5, err_msg=name
        )
    rows = net.blobs["detection_out"].data
    assert rows.shape == joined.shape == (1, 1, 200, 7)
    np.testing.assert_array_equal(joined[..., :2], rows[..., :2])
    np.testing.assert_allclose(joined[..., 2:], rows[..., 2:], atol=1e-4)


# Training ----------------------------------------------------------------------------------------


def training_net() -> Any:
    """A tiny detector of three classes on one fixed batch of 96 px images."""
    body = GRP_TINY.for_image(96)
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [3, 3, 96, 96]})
    n.label = L.Input(shape={"dim": [1, 1, 3, 8]})
    body.add_to(n)
    mbox = CreateMultiBoxHead(
        n,
        num_classes=3,
        from_layers=body.sources,
        min_sizes=[15, 30, 50, 70],
        max_sizes=[30, 50, 70, 90],
        aspect_ratios=[[2]] * 4,
        steps=[8, 16, 32, 48],
        normalizations=[20] * 4,
        clip=False,
        kernel_size=3,
        pad=1,
        prior_variance=[0.1, 0.1, 0.2, 0.2],
    )
    n.mbox_loss = L.MultiBoxLoss(
        *mbox,
        n.label,
        multibox_loss_param={"num_classes": 3, "mining_type": 1},
        propagate_down=[True, True, False, False],
    )
    return n.to_proto()


def test_tiny_body_trains(tmp_path: Path) -> None:
    """The loss falls; deconvolutions stay; of a gate only the biases of its sigmoids learn."""
    (tmp_path / "train.prototxt").write_text(str(training_net()))
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/train.prototxt" base_lr: 0.02 momentum: 0.9 lr_policy: "fixed" '
        f'weight_decay: 0.0005 max_iter: 20 random_seed: 1 snapshot_prefix: "{tmp_path}/tiny" '
        "snapshot_after_train: false"
    )
    solver = caffe.SGDSolver(str(tmp_path / "solver.prototxt"))
    net = solver.net
    random = np.random.default_rng(2)
    images = 20 * random.standard_normal((3, 3, 96, 96))
    images[0, 0, 10:50, 20:60] += 120
    images[1, 1, 40:90, 30:80] += 120
    images[2, 0, 30:60, 5:45] += 120
    net.blobs["data"].data[...] = images
    net.blobs["label"].data[...] = np.reshape(
        [
            [0, 1, 0, 20 / 96, 10 / 96, 60 / 96, 50 / 96, 0],
            [1, 2, 0, 30 / 96, 40 / 96, 80 / 96, 90 / 96, 0],
            [2, 1, 0, 5 / 96, 30 / 96, 45 / 96, 60 / 96, 0],
        ],
        (1, 1, 3, 8),
    )
    frozen = net.params["Deconvolution2"][0].data.copy()
    losses = []
    for _ in range(20):
        solver.step(1)
        losses.append(float(net.blobs["mbox_loss"].data))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.6 * np.mean(losses[:3])
    np.testing.assert_array_equal(net.params["Deconvolution2"][0].data, frozen)
    fc, channels, image = (
        net.params[name] for name in ("Recurrent1_fc", "InnerProduct1", "InnerProduct2")
    )
    for blob in (*fc, channels[0], image[0]):
        assert not blob.data.any()
    assert channels[1].data.any()
    assert image[1].data.any()
