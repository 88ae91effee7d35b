"""upgrade_net_proto_text, upgrade_net_proto_binary, upgrade_solver_proto_text."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.proto.binary import read_binary, write_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import parse_text, read_text
from caffe_ssd.tools import upgrade_proto
from tests.cli.test_upgrade_net import OLD


def test_net_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    Path(old).write_text(OLD)
    assert upgrade_proto.net_text([old, new]) == 0
    log = capsys.readouterr().err
    assert log.endswith(f"] Wrote upgraded NetParameter text proto to {new}\n")
    assert "already" not in log
    types = [layer.type for layer in read_text(new, NetParameter()).layer]
    assert types == ["Input", "Convolution", "ReLU"]
    before = Path(new).read_bytes()
    assert upgrade_proto.net_text([new, new]) == 0
    assert f"File already in latest proto format: {new}" in capsys.readouterr().err
    assert Path(new).read_bytes() == before


def test_net_as_binary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    message = parse_text(OLD, NetParameter())
    message.layers[0].blobs.add(data=[1, 2], num=1, channels=1, height=1, width=2)
    write_binary(old, message)
    assert upgrade_proto.net_binary([old, new]) == 0
    net = read_binary(new, NetParameter())
    assert [layer.type for layer in net.layer] == ["Input", "Convolution", "ReLU"]
    assert list(net.layer[1].blobs[0].data) == [1, 2]
    Path(old).write_text(OLD)
    capsys.readouterr()
    assert upgrade_proto.net_binary([old, f"{new}er"]) == 1
    assert capsys.readouterr().err.startswith(f"upgrade_net_proto_binary: {old}: ")
    assert not Path(f"{new}er").exists()


def test_solver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    Path(old).write_text('net: "n.prototxt" base_lr: 0.5 solver_type: ADAGRAD')
    assert upgrade_proto.solver_text([old, new]) == 0
    solver = read_text(new, SolverParameter())
    assert (solver.type, solver.HasField("solver_type"), solver.base_lr) == ("AdaGrad", False, 0.5)
    Path(old).write_text('solver_type: ADAM type: "SGD"')
    assert upgrade_proto.solver_text([old, f"{new}er"]) == 1
    assert "keep only type" in capsys.readouterr().err
