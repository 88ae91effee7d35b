"""Whole generated nets with recorded weights give the reference's outputs."""

from __future__ import annotations

import json
import zlib

import caffe
import numpy as np
import pytest
from google.protobuf import json_format

from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.proto.text import write_text
from tests.support.golden import GOLDEN

NETS = GOLDEN / "nets"


def rng(key: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))


def draw(kind: str, layer: str, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """The values of one blob by the recipe of docs/fidelity.md."""
    source = rng(f"{layer}/{index}")
    if kind in ("Convolution", "InnerProduct"):
        if index == 0:
            return source.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        return 0.1 * source.standard_normal(shape)
    if kind == "BatchNorm":
        means = 0.1 * source.standard_normal(shape) if index == 0 else np.ones(shape)
        return source.uniform(0.5, 1.5, shape) if index == 1 else means
    if kind == "Scale":
        if index == 0:
            return source.uniform(0.5, 1.5, shape)
        return 0.1 * source.standard_normal(shape)
    if kind == "Normalize":
        return 20 * source.uniform(0.9, 1.1, shape)
    return None


def load(name: str, folder) -> tuple[caffe.Net, dict]:
    message = json_format.ParseDict(
        json.loads((NETS / name / "deploy.json").read_text()), NetParameter()
    )
    for layer in message.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    write_text(folder / "deploy.prototxt", message)
    net = caffe.Net(str(folder / "deploy.prototxt"), caffe.TEST)
    info = json.loads((NETS / name / "forward.json").read_text())
    for layer_name, layer in net.layer_dict.items():
        for i, blob in enumerate(layer.blobs):
            values = draw(layer.type, layer_name, i, blob.data.shape)
            if values is not None:
                gain = info["gain"].get(layer_name, 1) if i == 0 else 1
                blob.data[...] = values.astype(np.float32) * np.float32(gain)
    return net, info


@pytest.mark.parametrize("name", ["DSOD300_pascal", "ssd_pascal"])
def test_forward(name: str, tmp_path) -> None:
    net, info = load(name, tmp_path)
    shape = net.blobs["data"].data.shape
    net.blobs["data"].data[...] = (rng("data/0").standard_normal(shape) * 50).astype(np.float32)
    net.forward()
    with np.load(NETS / name / "forward.npz") as want:
        for blob, facts in info["blobs"].items():
            have = net.blobs[blob].data
            assert list(have.shape) == facts["shape"]
            if blob == "detection_out":
                assert_same_detections(have, want[blob], want["detection_out_stable"])
                continue
            if facts["every"] > 1:
                have = have.ravel()[:: facts["every"]]
            # Inner blobs reach hundreds; their small entries are differences of large ones.
            atol = max(1e-4, 3e-6 * float(np.abs(want[blob]).max()))
            np.testing.assert_allclose(have, want[blob], rtol=1e-3, atol=atol, err_msg=blob)


def assert_same_detections(have: np.ndarray, want: np.ndarray, stable: np.ndarray) -> None:
    keep = stable.astype(bool).ravel()
    have, want = have.reshape(-1, 7)[keep], want.reshape(-1, 7)[keep]
    np.testing.assert_array_equal(have[:, :2], want[:, :2])
    np.testing.assert_allclose(have[:, 2], want[:, 2], atol=1e-4)
    np.testing.assert_allclose(have[:, 3:], want[:, 3:], atol=1e-3)


RECORDED = (
    "DSOD300_pascal",
    "DSOD300_coco",
    "DSOD300_pascal++",
    "ssd_pascal",
    "scratchdet_pascal",
    "scratchdet_coco",
)


@pytest.mark.parametrize("name", RECORDED)
def test_deploy_net_is_built_as_recorded(name: str, tmp_path) -> None:
    """Blobs, layers, splits and parameter counts equal the recorded ones."""
    want = json.loads((NETS / name / "shapes.json").read_text())
    message = json_format.ParseDict(
        json.loads((NETS / name / "deploy.json").read_text()), NetParameter()
    )
    for layer in message.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    write_text(tmp_path / "deploy.prototxt", message)
    net = caffe.Net(str(tmp_path / "deploy.prototxt"), caffe.TEST)
    assert [[name, blob.shape] for name, blob in net.blobs.items()] == want["blobs"]
    assert net.inputs == want["inputs"]
    assert net.outputs == want["outputs"]
    assert list(net.layer_dict) == [layer["name"] for layer in want["layers"]]
    floats = sum(blob.count for blobs in net.params.values() for blob in blobs)
    assert floats == want["total_parameter_floats"]
