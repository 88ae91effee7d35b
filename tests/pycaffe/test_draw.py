"""Nets drawn as DOT."""

from __future__ import annotations

import stat
from pathlib import Path

import caffe
import pytest
from caffe.draw import draw_net, draw_net_to_file, get_pydot_graph
from google.protobuf import text_format

from caffe_ssd.errors import CaffeError
from caffe_ssd.proto.caffe_pb2 import NetParameter

NET = """
name: "a \\"net\\""
layer { name: "data" type: "Data" top: "data" top: "label" data_param { batch_size: 32 }
  include { phase: TRAIN } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 20 kernel_size: 5 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 pad: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 7 kernel_h: 2 kernel_w: 4 } }
layer { name: "ip" type: "InnerProduct" bottom: "up" top: "ip"
  inner_product_param { num_output: 10 } }
layer { name: "a|b" type: "Softmax" bottom: "ip" top: "prob" exclude { phase: TRAIN } }
"""


def net() -> NetParameter:
    return text_format.Parse(NET, NetParameter())


def test_nodes() -> None:
    nodes = get_pydot_graph(net(), "TB").nodes
    assert {name: node["fillcolor"] for name, node in nodes.items() if "_blob" not in name} == {
        "data_Data": "#6495ED",
        "conv_Convolution": "#FF5050",
        "relu_ReLU": "#90EE90",
        "pool_Pooling": "#FF9900",
        "up_Deconvolution": "#FF5050",
        "ip_InnerProduct": "#CC33FF",
        "a|b_Softmax": "#6495ED",
    }
    assert nodes["relu_ReLU"]["label"] == "relu (ReLU)"
    assert nodes["relu_ReLU"]["shape"] == "record"
    assert nodes["conv_Convolution"]["label"] == (
        "conv (Convolution) kernel size: 5 stride: 2 pad: 0"
    )
    assert nodes["pool_Pooling"]["label"] == "pool (AVE Pooling) kernel size: 3 stride: 1 pad: 1"
    assert "kernel size: 2x4" in nodes["up_Deconvolution"]["label"]
    assert nodes["a|b_Softmax"]["label"] == r"a\|b (Softmax)"
    assert nodes["conv_blob"] == {
        "label": "conv",
        "shape": "octagon",
        "fillcolor": "#E0E0E0",
        "style": "filled",
    }


def test_edges() -> None:
    edges = get_pydot_graph(net(), "LR").edges
    assert ("data_Data", "label_blob", "Batch 32") in edges
    assert ("data_blob", "conv_Convolution", "") in edges
    assert ("conv_Convolution", "conv_blob", "20") in edges
    assert ("up_Deconvolution", "up_blob", "7") in edges
    assert ("ip_InnerProduct", "ip_blob", "10") in edges
    assert ("pool_Pooling", "pool_blob", "") in edges
    assert not any(label for *_, label in get_pydot_graph(net(), "LR", label_edges=False).edges)


def test_phase() -> None:
    train = get_pydot_graph(net(), "LR", phase=caffe.TRAIN).nodes
    test = get_pydot_graph(net(), "LR", phase=caffe.TEST).nodes
    assert "data_Data" in train
    assert "a|b_Softmax" not in train
    assert "data_Data" not in test
    assert "a|b_Softmax" in test


@pytest.mark.parametrize("extension", ["dot", "gv"])
def test_text_files(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{extension}"
    draw_net_to_file(net(), str(path))
    text = path.read_text()
    assert text.startswith('digraph "a \\"net\\"" {\n  rankdir=LR;\n')
    assert '  "conv_Convolution" -> "conv_blob" [label="20"];' in text
    assert r'label="relu\n(ReLU)"' in text
    assert text.count("{") == text.count("}") == 1


def test_other_formats_need_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaffeError, match="'png' needs the program dot of Graphviz"):
        draw_net_to_file(net(), str(tmp_path / "net.png"))
    assert not (tmp_path / "net.png").exists()
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\n[ $1 = -Tpng ] || { echo no such format >&2; exit 1; }\n/bin/cat\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    draw_net_to_file(net(), str(tmp_path / "net.png"), rankdir="BT")
    assert (tmp_path / "net.png").read_text().startswith("digraph")
    with pytest.raises(CaffeError, match="dot cannot draw 'xyz': no such format"):
        draw_net(net(), "LR", "xyz")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match="rankdir is 'UP'; allowed: LR, TB, BT, RL"):
        draw_net(net(), "UP", "dot")
    with pytest.raises(CaffeError, match="has no extension that names a format"):
        draw_net_to_file(net(), str(tmp_path / "net"))
    message = net()
    message.layer[0].exclude.add()
    with pytest.raises(CaffeError, match="layer 'data' has both include and exclude rules"):
        draw_net(message, "LR", "dot", caffe.TRAIN)
