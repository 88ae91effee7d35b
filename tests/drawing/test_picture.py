"""Nets as pictures: what is folded, and that nothing lies on anything else."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from caffe.models.dsod_recipes import dsod_pascal
from caffe.models.grp_dsod_recipes import grp_dsod_pascal
from caffe.models.recipe import make_nets
from caffe.models.scratchdet_recipes import scratchdet_pascal
from caffe.models.ssd_recipes import ssd_pascal

from caffe_ssd.drawing.picture import draw_net, folded
from caffe_ssd.errors import NetError
from caffe_ssd.net.cost import net_to_look_at
from caffe_ssd.proto.caffe_pb2 import TEST, NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net
from tests.support.tiny_detector import BODY, INPUT

FAMILIES = {
    "dsod": dsod_pascal,
    "grp_dsod": grp_dsod_pascal,
    "ssd": ssd_pascal,
    "scratchdet": scratchdet_pascal,
}
SVG = "{http://www.w3.org/2000/svg}"
# Links that jump, a side chain, two ends, a layer by itself.
ODD = """
layer { name: "in" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 20 dim: 24 } shape { dim: 2 dim: 1 } } }
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "a" type: "Convolution" bottom: "c1" top: "a"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "s" type: "Slice" bottom: "c1" top: "s1" top: "s2" }
layer { name: "e" type: "Eltwise" bottom: "a" bottom: "c1" top: "e" }
layer { name: "cat" type: "Concat" bottom: "s2" bottom: "s1" top: "cat" }
layer { name: "e2" type: "Eltwise" bottom: "e" bottom: "cat" bottom: "c1" top: "e2" }
layer { name: "fc" type: "InnerProduct" bottom: "e2" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "alone" type: "Parameter" top: "alone" parameter_param { shape { dim: 3 } } }
"""
JUDGED = (
    INPUT.replace('top: "data"', 'top: "data" top: "label"').replace(
        "} } }", "} shape { dim: 1 dim: 1 dim: 4 dim: 8 } } }"
    )
    + BODY
    + """layer { name: "score" type: "DetectionEvaluate" bottom: "found" bottom: "label"
  top: "score" detection_evaluate_param { num_classes: 3 } }"""
)


def built(text):
    param = upgrade_net(parse_text(text, NetParameter(), "net.prototxt"))
    return net_to_look_at(param, NetState(phase=TEST))


@pytest.fixture(scope="module", params=[*FAMILIES, "odd", "judged"])
def net(request):
    if request.param in FAMILIES:
        return built(str(make_nets(FAMILIES[request.param](), "results")["deploy"]))
    return built({"odd": ODD, "judged": JUDGED}[request.param])


def test_every_layer_is_in_one_box(net):
    """Also after folding; and each box reads boxes above it."""
    graph = folded(net)
    have = sorted(layer.name for box in graph for layer in box.layers)
    assert have == sorted(s.param.name for s in net.steps if s.param.type != "Split")
    seen = set()
    for box in graph:
        assert seen.issuperset(box.makers), box.title
        seen.add(box.key)


def test_nothing_lies_on_anything_else(net):
    root = ElementTree.fromstring(draw_net(net))
    boxes = [rectangle(each) for each in root.iter(f"{SVG}rect") if each.get("x")]
    wires = [corners(each) for each in root.iter(f"{SVG}path") if each.get("marker-end")]
    assert len(boxes) == len(folded(net))
    for (x0, y0, x1, y1), (u0, v0, u1, v1) in combinations(boxes, 2):
        assert x1 <= u0 or u1 <= x0 or y1 <= v0 or v1 <= y0
    insides = [(x0 + 1, y0 + 1, x1 - 1, y1 - 1) for x0, y0, x1, y1 in boxes]
    for wire in wires:
        for (x, y), (u, v) in pairwise(wire):
            for x0, y0, x1, y1 in insides:
                passes = max(x0, min(x, u)) < min(x1, max(x, u)) or x0 < x == u < x1
                passes &= max(y0, min(y, v)) < min(y1, max(y, v)) or y0 < y == v < y1
                assert not passes, (wire, (x0, y0, x1, y1))
    width, height = float(root.get("width")), float(root.get("height"))
    for x0, y0, x1, y1 in boxes:
        assert 0 < x0 < x1 < width
        assert 0 < y0 < y1 < height


def rectangle(element):
    x, y, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def corners(element):
    """The points of a wire, the beginnings and ends of its round corners too."""
    numbers = [float(word) for word in re.findall(r"[\d.]+", element.get("d"))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_dsod300():
    net = built(str(make_nets(dsod_pascal(), "results")["deploy"]))
    graph = folded(net)
    dense = [box for box in graph if box.title == "dense unit"]
    assert [box.count for box in dense] == [6, 8, 8, 8]
    assert {box.lines for box in dense} == {
        ("BN + ReLU + conv 1×1, 192 → BN + ReLU + conv 3×3, 48",)
    }
    assert dense[0].shape == (1, 416, 75, 75)
    heads = [box for box in graph if box.kind == "head"]
    names = {box.key: box.name for box in graph}
    assert [names[head.makers[0]] for head in heads] == [
        "First", "Second", "Third", "Fourth", "Fifth", "Sixth"
    ]  # fmt: skip
    assert heads[0].title == "38×38 map, 4 priors a cell"
    assert heads[0].lines == ("L2 norm → conv 3×3 (loc 16, conf 84) + BN", "5,776 priors")
    assert graph[-1].lines == ("8,744 priors, 21 classes",)


def test_heads_take_in_gates_and_enlarged_maps():
    graph = folded(built(str(make_nets(grp_dsod_pascal(), "results")["deploy"])))
    heads = [box for box in graph if box.kind == "head"]
    assert [len(head.makers) for head in heads] == [2, 2, 2, 2, 2, 1]
    assert heads[0].lines[0] == "deconv 2×2 /2, 128 + BN + ReLU → concat → gated unit"


def test_a_single_head():
    graph = folded(built(JUDGED))
    assert [box.kind for box in graph] == ["data", "conv", "head", "output", "output"]
    assert graph[2].title == "8×12 map, 1 prior a cell"
    assert graph[3].lines == ("96 priors, 3 classes",)


def test_names_are_escaped():
    net = built('name: "a<b&c" layer { name: "<x>" type: "Input" top: "x" }')
    text = draw_net(net)
    ElementTree.fromstring(text)
    assert "a&lt;b&amp;c" in text


def test_an_empty_net():
    with pytest.raises(NetError, match="no layers to draw"):
        draw_net(built('name: "nothing"'))
