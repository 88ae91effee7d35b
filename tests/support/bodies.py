"""The body of a detector as a net of its own, and as the reference recorded it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import caffe
from caffe import layers as L
from caffe.models import ssd
from caffe.models.datasets import VOC0712, Dataset
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.golden import GOLDEN


def body_net(body: Any, *shape: int) -> Any:
    """A net of a body alone, on images of a shape (N, 3, H, W)."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": list(shape)})
    coarsest = body.add_to(n, "data")
    assert coarsest is n[body.sources[-1]]
    assert set(body.sources) <= set(n.keys())
    return n.to_proto()


def body_layers(body: Any) -> list[Any]:
    """The layers of a body, without the image's."""
    return list(body_net(body, 1, 3, 300, 300).layer)[1:]


def recorded_body(folder: str) -> list[Any]:
    """The layers in front of the head of a recorded deploy net."""
    text = (GOLDEN / "nets" / folder / "deploy.json").read_text(encoding="utf-8")
    layers = list(ParseDict(json.loads(text), caffe_pb2.NetParameter()).layer)
    names = [layer.name for layer in layers]
    head = next(i for i, name in enumerate(names) if name.endswith(("_norm", "_mbox_loc")))
    return layers[:head]


def types_of(layers: Iterable[Any]) -> list[str]:
    return [layer.type for layer in layers]


def load(message: Any, folder: Path, phase: int = caffe.TEST) -> caffe.Net:
    """The net of a message, its fillers seeded."""
    path = folder / "net.prototxt"
    path.write_text(str(message), encoding="utf-8")
    caffe.set_random_seed(5)
    return caffe.Net(str(path), phase)


def deploy(detector: ssd.DetectorSpec, dataset: Dataset = VOC0712) -> Any:
    """The deploy net, without the files that its last layer would write."""
    net = ssd.deploy_net(detector, ssd.test_net(detector, dataset, 2, "results"))
    net.layer[-1].detection_output_param.ClearField("save_output_param")
    return net


def made(generate: Any, *shape: int, **keywords: Any) -> Any:
    """The net that a function of `caffe.model_libs` adds to images of a shape (N, 3, H, W)."""
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": list(shape)})
    assert generate(n, from_layer="data", **keywords) is n
    return n.to_proto()


def shapes_of(net: caffe.Net, *names: str) -> list[tuple[int, ...]]:
    """Shapes of blobs, without the batch."""
    return [tuple(net.blobs[name].shape[1:]) for name in names]
