"""State rules, splits, wiring and sharing (spec: caffe-net.md sections 3 to 9)."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import LayerError, LayerParamError, NetError, UnknownLayerError
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.splits import insert_splits
from caffe_ssd.net.state import filter_net
from caffe_ssd.proto.caffe_pb2 import TEST, TRAIN, NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


def fc(name: str, bottom: str, top: str, more: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {more} '
        'inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }'
    )


def message(text: str) -> NetParameter:
    return upgrade_net(parse_text(text, NetParameter()))


def build(text: str, **state: object) -> Net:
    return build_net(message(text), NetState(**{"phase": TEST, **state}))


@pytest.mark.parametrize(
    ("rule", "state", "kept"),
    [
        ("", {}, True),
        ("include { phase: TEST }", {"phase": TEST}, True),
        ("include { phase: TRAIN }", {"phase": TEST}, False),
        ("exclude { phase: TEST }", {"phase": TEST}, False),
        ("include { min_level: 2 }", {"level": 1}, False),
        ("include { max_level: 2 }", {"level": 2}, True),
        ('include { stage: "a" stage: "b" }', {"stage": ["a"]}, False),
        ('include { stage: "a" } include { stage: "b" }', {"stage": ["b"]}, True),
        ('include { not_stage: "a" }', {"stage": ["a"]}, False),
        ("include { }", {}, True),
    ],
)
def test_rules(rule: str, state: dict, kept: bool) -> None:
    param = message(f'layer {{ name: "l" type: "ReLU" {rule} }}')
    assert bool(filter_net(param, NetState(**state)).layer) == kept


def test_rules_that_are_not_met_are_told() -> None:
    param = message(
        'layer { name: "a" type: "ReLU" include { phase: TEST } include { } }'
        'layer { name: "b" type: "ReLU" include { } include { phase: TEST } }'
        'layer { name: "c" type: "ReLU" exclude { min_level: 3 } }'
        'layer { name: "d" type: "ReLU" include { max_level: 1 phase: TEST } }'
        'layer { name: "e" type: "ReLU" include { max_level: 1 } }'
        'layer { name: "f" type: "ReLU" include { stage: "x" stage: "y" not_stage: "x" } }'
        'layer { name: "g" type: "ReLU" include { stage: "x" not_stage: "x" } }'
    )
    told: list[str] = []
    net = filter_net(param, NetState(phase=0, level=2, stage=["x"]), told.append)
    assert [layer.name for layer in net.layer] == ["a", "b", "c"]
    assert told == [
        f"The NetState {what} specified by a rule in layer {layer}"
        for layer, what in (
            ("a", "phase (0) differed from the phase (1)"),
            ("c", "level (2) is below the min_level (3)"),
            ("d", "phase (0) differed from the phase (1)"),
            ("e", "level (2) is above the max_level (1)"),
            ("f", "lacks the stage 'y'"),
            ("g", "has the stage 'x', which is a not_stage"),
        )
    ]


def test_both_kinds_of_rules_are_refused() -> None:
    param = message('layer { name: "l" type: "ReLU" include { } exclude { } }')
    with pytest.raises(LayerParamError, match=r"'l' \(ReLU\): has 1 include and 1 exclude rules"):
        filter_net(param, NetState())


def test_a_top_read_twice_gets_a_split() -> None:
    split = insert_splits(message(INPUT + fc("a", "x", "ya") + fc("b", "x", "yb")))
    assert [layer.name for layer in split.layer] == ["in", "x_in_0_split", "a", "b"]
    assert list(split.layer[1].top) == ["x_in_0_split_0", "x_in_0_split_1"]
    assert [layer.bottom[0] for layer in split.layer[2:]] == list(split.layer[1].top)


def test_splits_follow_the_last_writer_of_an_in_place_chain() -> None:
    relu = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
    net = build(INPUT + fc("a", "x", "y") + relu + fc("b", "y", "z") + fc("c", "y", "w"))
    assert "y_r_0_split" in net.layer_names
    assert net.outputs == ["w", "z"]


def test_an_explicit_loss_weight_is_a_use() -> None:
    text = INPUT + fc("a", "x", "y", "loss_weight: 2") + fc("b", "y", "z")
    net = build(text, phase=TRAIN)
    assert net.loss_weights == {"y_a_0_split_0": 2.0}
    assert net.outputs == ["y_a_0_split_0", "z"]


@pytest.mark.parametrize(
    ("text", "error", "complaint"),
    [
        (INPUT + fc("a", "nope", "y"), NetError, r"Unknown bottom blob 'nope' \(layer 'a'"),
        (INPUT + fc("a", "x", "x2") + fc("b", "x2", "x"), NetError, "multiple sources: layer 'b'"),
        (INPUT + fc("a", "x", "y", "param { } param { } param { }"), LayerParamError, "Too many"),
        (INPUT + fc("a", "x", "y", "loss_weight: 1 loss_weight: 1"), LayerParamError, "per top"),
        (INPUT + fc("a", "x", "y", "propagate_down: true propagate_down: true"),
         LayerParamError, "propagate_down has 2 entries"),
        (INPUT + 'layer { name: "s" type: "Softmx" bottom: "x" top: "y" }',
         UnknownLayerError, "did you mean Softmax"),
    ],
)  # fmt: skip
def test_refusals_name_the_layer(text: str, error: type[Exception], complaint: str) -> None:
    with pytest.raises(error, match=complaint) as caught:
        build(text)
    if isinstance(caught.value, LayerError):
        assert caught.value.layer in ("a", "s")


def test_shared_parameters_are_one_blob() -> None:
    share = 'param { name: "w" lr_mult: 0.5 } param { name: "b" }'
    text = INPUT + fc("a", "x", "y", share) + fc("b", "y", "z", 'param { name: "w" } param { }')
    net = build(text, phase=TRAIN)
    assert [(e.layer, e.index) for e in net.learnable] == [("a", 0), ("a", 1), ("b", 1)]
    assert net.layers[2].blobs[0] is net.layers[1].blobs[0]
    assert net.learnable[0].lr_mult == 0.5


def test_a_later_sharer_may_give_the_rate_but_not_another_one() -> None:
    first = INPUT + fc("a", "x", "y", 'param { name: "w" }')
    net = build(first + fc("b", "y", "z", 'param { name: "w" lr_mult: 3 }'), phase=TRAIN)
    assert net.learnable[0].lr_mult == 3
    first = INPUT + fc("a", "x", "y", 'param { name: "w" lr_mult: 2 }')
    with pytest.raises(LayerParamError, match="mismatched lr_mult: 3 here, 2 in layer 'a'"):
        build(first + fc("b", "y", "z", 'param { name: "w" lr_mult: 3 }'))


def test_forward_keeps_only_what_is_asked_for() -> None:
    net = build(INPUT + fc("a", "x", "y") + fc("b", "y", "z"))
    x = torch.randn(2, 3)
    assert set(net({"x": x}).blobs) == {"z"}
    kept = net({"x": x}, keep=["y"]).blobs
    torch.testing.assert_close(kept["z"], net({"x": x}).blobs["z"])
    assert set(kept) == {"y", "z"}
    with pytest.raises(NetError, match="no blob named 'nope'; there are: x, y, z"):
        net({"x": x}, keep=["nope"])
    with pytest.raises(NetError, match="no input named 'y'; there are: x"):
        net({"y": x})


def test_blobs_in_the_message_win_over_fillers() -> None:
    weight = "blobs { shape { dim: 3 dim: 3 } data: [5, 5, 5, 5, 5, 5, 5, 5, 5] }"
    bias = "blobs { shape { dim: 3 } data: [1, 2, 3] }"
    net = build(INPUT + fc("a", "x", "y", weight + bias))
    assert (net.layers[1].blobs[0] == 5).all()
    assert net.layers[1].blobs[1].tolist() == [1, 2, 3]
    assert not net.steps[1].param.blobs


def test_a_net_is_an_ordinary_module() -> None:
    net = build(INPUT + fc("a.b", "x", "y") + fc("keys", "y", "z"))
    other = build(INPUT + fc("a.b", "x", "y") + fc("keys", "y", "z"))
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 3)
    torch.testing.assert_close(net({"x": x}).blobs["z"], other({"x": x}).blobs["z"])
    assert net.double()({"x": x.double()}).blobs["z"].dtype == torch.float64


def test_outputs_of_a_training_net_without_a_loss_take_diffs() -> None:
    text = (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "s" type: "Scale" bottom: "x" top: "y" }'
    )
    for phase, needed in (("TRAIN", True), ("TEST", False)):
        net = build_net(parse_text(text, NetParameter()), NetState(phase=phase))
        assert net.steps[-1].needs_backward == needed
    loss = text + 'layer { name: "e" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }'
    extra = 'layer { name: "p" type: "Power" bottom: "x" top: "z" }'
    net = build_net(parse_text(loss + extra, NetParameter()), NetState(phase="TRAIN"))
    assert [step.needs_backward for step in net.steps[-2:]] == [True, False]
