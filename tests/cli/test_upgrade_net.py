"""`caffe upgrade_net`."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.proto.binary import read_binary, write_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.proto.text import parse_text, read_text

OLD = """
name: "old" input: "x" input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 7
layers { name: "conv" type: CONVOLUTION bottom: "x" top: "y" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "y" top: "y" }
"""


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.prototxt", tmp_path / "new.prototxt"
    old.write_text(OLD)
    assert main(["upgrade_net", str(old), str(new)]) == 0
    assert capsys.readouterr().out == f"wrote {new}: text, 3 layers, 0 blobs\n"
    net = read_text(new, NetParameter())
    assert [layer.type for layer in net.layer] == ["Input", "Convolution", "ReLU"]
    assert not net.layers
    assert [entry.lr_mult for entry in net.layer[1].param] == [1, 2]


def test_binary(tmp_path: Path) -> None:
    message = parse_text(OLD, NetParameter())
    message.layers[0].blobs.add(data=[1, 2], num=1, channels=1, height=1, width=2)
    path = tmp_path / "weights"  # the name says nothing
    write_binary(path, message)
    assert main(["upgrade_net", str(path), str(path)]) == 0
    net = read_binary(path, NetParameter())
    assert list(net.layer[1].blobs[0].data) == [1, 2]
    assert not net.layers


def test_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new"
    assert main(["upgrade_net", str(tmp_path / "none"), str(target)]) == 1
    assert "Could not open file" in capsys.readouterr().err
    (tmp_path / "foreign").write_text(OLD + "colour: 3")
    assert main(["upgrade_net", str(tmp_path / "foreign"), str(target)]) == 1
    assert 'no field named "colour"' in capsys.readouterr().err
    assert not target.exists()
    assert main(["upgrade_net", "-skip", "colour", str(tmp_path / "foreign"), str(target)]) == 0


def test_strict_refuses_extensions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = OLD.replace("layers", "layer").replace(" type: CONVOLUTION", ' type: "Convolution"')
    text = text.replace("blobs_lr: 1 blobs_lr: 2", "").replace(" type: RELU", ' type: "GroupNorm"')
    source, target = tmp_path / "net.prototxt", tmp_path / "plain.prototxt"
    source.write_text(text)
    command = ["upgrade_net", "-strict", str(source), str(target)]
    assert main(command) == 1
    error = capsys.readouterr().err
    where = f"{source}:5:22: layer 'relu': type: \"GroupNorm\""
    assert f"{where} is an extension that the original SSD-Caffe does not know" in error
    assert not target.exists()
    assert main(["upgrade_net", str(source), str(target)]) == 0

    weights = tmp_path / "net.caffemodel"
    write_binary(weights, read_text(source, NetParameter()))
    assert main(["upgrade_net", "-strict", str(weights), str(weights)]) == 1
    assert f"{weights}: layer 'relu': type: \"GroupNorm\" is an ext" in capsys.readouterr().err

    source.write_text('layer [ { name: "n" type: "Group" "Norm" } ]')
    assert main(command) == 1
    assert f"{source}: layer 'n': type: \"GroupNorm\" is an ext" in capsys.readouterr().err

    source.write_text(OLD)
    assert main(command) == 0
