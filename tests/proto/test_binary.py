"""Binary messages in and out, and what is said about files that hold none."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.errors import FileError, ProtoError
from caffe_ssd.proto.binary import read_binary, read_weights, write_binary
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto, NetParameter, V1LayerParameter
from tests.support.golden import GOLDEN


def some_weights() -> NetParameter:
    net = NetParameter(name="n")
    net.layer.add(name="c", type="Convolution").blobs.append(array_to_blob([[1.0, 2.0, 3.0]]))
    return net


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "n.caffemodel"
    write_binary(path, some_weights())
    assert read_weights(path) == some_weights()
    assert read_binary(path, NetParameter(name="overwritten")) == some_weights()


def test_old_weights_are_upgraded(tmp_path: Path) -> None:
    net = NetParameter(input=["data"])
    layer = net.layers.add(name="ip", type=V1LayerParameter.INNER_PRODUCT, blobs_lr=[1, 2])
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    path = tmp_path / "old.caffemodel"
    write_binary(path, net)
    upgraded = read_weights(path)
    assert [(entry.name, entry.type) for entry in upgraded.layer] == [("ip", "InnerProduct")]
    assert blob_to_array(upgraded.layer[0].blobs[0]).shape == (1, 1, 2, 3)
    assert list(upgraded.input) == []


@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"", "it is empty"),
        (b"\x89HDF\r\n\x1a\n", "HDF5 file, whose name should end in .h5"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04\x00\x00", "a PyTorch file"),
        (b'name: "net"\nlayer {\n', "text, perhaps a prototxt"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "damaged, or another kind of file"),
        (some_weights().SerializeToString()[:-5], "cut off: at least 5 of 44 bytes are missing"),
    ],
)
def test_wrong_files_are_recognised(tmp_path: Path, data: bytes, guess: str) -> None:
    path = tmp_path / "n.caffemodel"
    path.write_bytes(data)
    with pytest.raises(ProtoError, match=rf"n\.caffemodel: .*{guess}"):
        read_weights(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^Could not open file .*none: No such file"):
        read_weights(tmp_path / "none")


def test_unwritable_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none/mean\.binaryproto: No such file"):
        write_binary(tmp_path / "none" / "mean.binaryproto", BlobProto())


def test_recorded_weights_are_rewritten_value_for_value() -> None:
    models = sorted((GOLDEN / "logs").rglob("*.caffemodel"))
    assert len(models) > 5
    for path in models:
        for layer in read_weights(path).layer:
            for blob in layer.blobs:
                again = array_to_blob(blob_to_array(blob))
                assert again.data == blob.data
                assert again.shape == blob.shape


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    """Files written elsewhere have names in any encoding; none of them stays bytes."""
    name = "\u5377\u79ef".encode("gbk")
    layer = bytes([0x0A, len(name)]) + name + bytes([0x1A, len(name)]) + name  # name, bottom
    (tmp_path / "a.caffemodel").write_bytes(bytes([0xA2, 0x06, len(layer)]) + layer)
    net = read_weights(tmp_path / "a.caffemodel")
    assert isinstance(net.layer[0].name, str)
    assert "\ufffd" in net.layer[0].name
    assert list(net.layer[0].bottom) == [net.layer[0].name]
