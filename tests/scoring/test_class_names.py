"""The names of a net's classes come from the label map that the net names."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.scoring.class_names import class_names

NET = """
layer { name: "loc" type: "Input" top: "loc" input_param { shape { dim: 1 dim: 8 } } }
layer { name: "conf" type: "Input" top: "conf" input_param { shape { dim: 1 dim: 6 } } }
layer { name: "prior" type: "Input" top: "prior" input_param { shape { dim: 1 dim: 2 dim: 8 } } }
layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
  detection_output_param { num_classes: 3 background_label_id: 0 nms_param { top_k: 10 } %s } }
"""
MAP = """
item { name: "n1" label: 0 display_name: "background" }
item { name: "n2" label: 1 display_name: "cat" }
"""


def names(extra: str) -> dict[int, str]:
    return class_names(build_net(parse_text(NET % extra, NetParameter()), NetState(phase=1)))


def test_names_of_the_label_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("map.prototxt").write_text(MAP)
    assert names('save_output_param { label_map_file: "map.prototxt" }') == {
        1: "cat",
        2: "class2",  # the map does not name it
    }


def test_numbers_without_one() -> None:
    assert names("") == {1: "class1", 2: "class2"}


def test_a_net_that_detects_nothing() -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }'
    assert class_names(build_net(parse_text(text, NetParameter()), NetState(phase=1))) == {}
