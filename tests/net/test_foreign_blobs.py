"""Weights as other forks wrote them."""

from __future__ import annotations

import logging

import caffe
import numpy as np
import pytest

from caffe_ssd.errors import LayerError, ProtoError, WeightsError
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.weights import copy_trained, copy_trained_file
from caffe_ssd.proto.blobs import blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto, NetParameter, NetState
from caffe_ssd.proto.text import parse_text

INPUT = 'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {0} }} }} }}'


def net_with(layer: str, channels: int = 3) -> Net:
    """A net of one layer `l` over (2, channels, 4, 5)."""
    shape = f"dim: 2 dim: {channels} dim: 4 dim: 5"
    text = INPUT.format(shape) + f'layer {{ name: "l" bottom: "x" top: "y" {layer} }}'
    return build_net(parse_text(text, NetParameter()), NetState())


SCALED = 'type: "BatchNorm" batch_norm_param { scale_bias: true }'


def weights(kind: str, *shapes: tuple[int, ...]) -> NetParameter:
    """Blob i is filled with i + 1."""
    message = NetParameter()
    layer = message.layer.add(name="l", type=kind)
    for i, shape in enumerate(shapes):
        blob = layer.blobs.add(data=np.full(shape, i + 1.0).ravel())
        blob.shape.dim.extend(shape)
    return message


def values(net: Net) -> list[float]:
    """The first number of each blob."""
    (blobs,) = [blobs for name, blobs in net.layer_blobs() if name == "l"]
    return [float(blob.detach().flatten()[0]) for blob in blobs]


def test_the_factors_place_tells_the_order() -> None:
    net = net_with(SCALED)
    copy_trained(net, weights("BatchNorm", (3,), (3,), (1,), (3,), (3,)), "new")
    assert values(net) == [1, 2, 3, 4, 5]
    copy_trained(net, weights("BatchNorm", (3,), (3,), (3,), (3,), (1,)), "old")
    assert values(net) == [3, 4, 5, 1, 2]


def test_one_channel_does_not_tell(caplog: pytest.LogCaptureFixture) -> None:
    net = net_with(SCALED, channels=1)
    with caplog.at_level(logging.WARNING):
        copy_trained(net, weights("BatchNorm", *[(1,)] * 5), "either")
    assert values(net) == [1, 2, 3, 4, 5]
    assert "with one channel the order of the 5 blobs cannot be told" in caplog.text


def test_a_scale_that_the_text_lacks_is_named() -> None:
    net = net_with('type: "BatchNorm"')
    with pytest.raises(WeightsError, match=r"batch_norm_param \{ scale_bias: true \}"):
        copy_trained(net, weights("BatchNorm", (3,), (3,), (1,), (3,), (3,)), "m")


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (1, 3), (3,)])
def test_numbers_per_channel_fit_in_every_shape(shape: tuple[int, ...]) -> None:
    net = net_with('type: "BN" bn_param { eps: 0.1 }')
    copy_trained(net, weights("BN", *[shape] * 4), "m")
    assert values(net) == [1, 2, 3, 4]
    net = net_with('type: "Scale"')
    copy_trained(net, weights("Scale", shape), "m")
    assert values(net) == [1]
    with pytest.raises(WeightsError, match="shape mismatch"):
        copy_trained(net, weights("Scale", (3, 1)), "m")


def raw(kind: int, data: bytes, *dims: int) -> BlobProto:
    blob = BlobProto(raw_data_type=kind, raw_data=data)  # type: ignore[arg-type]
    blob.shape.dim.extend(dims)
    return blob


def test_bytes_are_read() -> None:
    halves = np.array([6e-8, -65504, np.inf, 0.333], "<f2")
    have = blob_to_array(raw(BlobProto.FLOAT16, halves.tobytes(), 2, 2))
    assert have.dtype == np.float32
    np.testing.assert_array_equal(have, halves.astype(np.float32).reshape(2, 2))
    doubles = np.array([1 / 3, 2.0])
    have = blob_to_array(raw(BlobProto.DOUBLE, doubles.tobytes(), 2))
    np.testing.assert_array_equal(have, doubles.astype(np.float32))
    both = raw(BlobProto.FLOAT16, b"", 1)
    both.data.append(7)
    assert blob_to_array(both).tolist() == [7]  # what is spelled out comes first


@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (raw(BlobProto.FLOAT16, b"1234", 3), "needs 3 values, its data has 2"),
        (raw(BlobProto.FLOAT, b"12345", 1), "5 bytes, no multiple of 4 as FLOAT needs"),
        (raw(BlobProto.INT, b"1234", 1), "raw_data_type INT is not supported"),
        (BlobProto(raw_data=b"12"), "lacks raw_data_type"),
    ],
)
def test_bytes_that_are_refused(blob: BlobProto, complaint: str) -> None:
    with pytest.raises(ProtoError, match=complaint):
        blob_to_array(blob)


def test_weights_are_read_whatever_a_fork_calls_its_fields(
    tmp_path, caplog: pytest.LogCaptureFixture
) -> None:
    message = weights("BatchNorm", (3,), (3,), (1,))
    layer = message.layer[0].SerializeToString()
    # Field 137, a message here, holds what is none.
    layer += bytes([0xCA, 0x08, 3]) + b"\xff\xff\xff"
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(bytes([0xA2, 0x06, len(layer)]) + layer)
    net = net_with('type: "BatchNorm"')
    with caplog.at_level(logging.WARNING):
        copy_trained_file(net, path)
    assert values(net) == [1, 2, 3]
    assert "of another fork; only names and blobs are read" in caplog.text
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ProtoError, match="cut off"):
        copy_trained_file(net, path)


@pytest.mark.parametrize("count", [2, 4])
def test_blobs_tell_which_bn_an_empty_one_is(count: int, tmp_path) -> None:
    text = INPUT.format("dim: 2 dim: 3 dim: 4 dim: 5")
    (tmp_path / "n.prototxt").write_text(
        text + 'layer { name: "l" type: "BN" bottom: "x" top: "y" bn_param { engine: CAFFE } }'
    )
    path = tmp_path / "w.caffemodel"
    path.write_bytes(weights("BN", *[(1, 3, 1, 1)] * count).SerializeToString())
    net = caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST, weights=str(path))
    assert [float(blob.data[0, 0, 0, 0]) for blob in net.params["l"]] == [1, 2, 3, 4][:count]
    with pytest.raises(LayerError, match=r"SegNet's BN \(2 learnt blobs\) or PSPNet's \(4\)"):
        caffe.Net(str(tmp_path / "n.prototxt"), caffe.TEST)
