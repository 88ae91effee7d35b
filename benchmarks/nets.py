"""DSOD300 for the benchmarks, made by the generators, with random weights of one seed."""

from __future__ import annotations

import numpy as np
import torch
from caffe.models.dsod_recipes import DSOD
from caffe.models.recipe import make_nets
from torch import Tensor

from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.convolution import Convolution
from caffe_ssd.layers.scale import Scale
from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState
from caffe_ssd.proto.upgrade import upgrade_net

SIZE = 300
NUM_CLASSES = 21
BACKGROUND = 7.0
OBJECTS_PER_IMAGE = 3


def dsod300_param(kind: str, *, variant: str = "DSOD300", data: str = "VOC0712") -> NetParameter:
    """The `train`, `test` or `deploy` net of DSOD300 for VOC07+12; no data are read."""
    made = make_nets(DSOD.recipe(data, variant), "")[kind]
    param = upgrade_net(NetParameter.FromString(made.SerializeToString()))
    for layer in param.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    return param


def fed_by_hand(param: NetParameter, *, batch: int) -> NetParameter:
    """The training net with two Inputs in place of its data layer."""
    rows = batch * OBJECTS_PER_IMAGE
    given = []
    for name, shape in (("data", (batch, 3, SIZE, SIZE)), ("label", (1, 1, rows, 8))):
        layer = LayerParameter(name=name, type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(shape)
        given.append(layer)
    fed = NetParameter()
    fed.CopyFrom(param)
    del fed.layer[:]
    fed.layer.extend([*given, *param.layer[1:]])
    return fed


def dsod300(*, variant: str = "DSOD300", data: str = "VOC0712", batch: int = 1) -> Net:
    """The deploy net, with weights under which signals neither die nor explode.

    The background's scores are raised, so that candidates are rare.
    """
    param = dsod300_param("deploy", variant=variant, data=data)
    for layer in param.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[0] = batch
    num_classes = param.layer[-1].detection_output_param.num_classes
    net = build_net(param, NetState(phase="TEST"))
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, Convolution):
                weight = layer.blobs[0]
                weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=rng)
            elif isinstance(layer, BatchNorm):
                layer.blobs[0].normal_(0, 0.1, generator=rng)
                layer.blobs[1].uniform_(0.5, 1.5, generator=rng)
                layer.blobs[2].fill_(1)
            elif isinstance(layer, Scale):
                layer.blobs[0].uniform_(0.5, 1.5, generator=rng)
                layer.blobs[1].normal_(0, 0.1, generator=rng)
        for step, layer in zip(net.steps, net.layers, strict=True):
            if step.param.name.endswith("mbox_conf_scale"):
                layer.blobs[1][::num_classes] += BACKGROUND
    return net


def images(batch: int = 1, *, size: int = SIZE, seed: int = 3) -> Tensor:
    """(batch, 3, size, size), like pictures minus their mean."""
    rng = torch.Generator().manual_seed(seed)
    return 50 * torch.randn(batch, 3, size, size, generator=rng)


def objects(
    batch: int, *, per_image: int = OBJECTS_PER_IMAGE, seed: int = 5
) -> list[tuple[Tensor, Tensor]]:
    """Boxes (G, 4) in [0, 1] and classes (G,) of each image."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(batch):
        low = rng.uniform(0, 0.6, (per_image, 2))
        high = low + rng.uniform(0.1, 0.4, (per_image, 2))
        boxes = torch.from_numpy(np.concatenate([low, high], 1).astype(np.float32))
        found.append((boxes, torch.from_numpy(rng.integers(1, NUM_CLASSES, per_image))))
    return found


def label_blob(found: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The objects as AnnotatedData gives them: (1, 1, rows, 8)."""
    rows = [
        [item, int(label), index, *box.tolist(), 0]
        for item, (boxes, labels) in enumerate(found)
        for index, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]
    return torch.tensor(rows, dtype=torch.float32)[None, None]
