"""Layers run one by one give what the whole net gives, and the rules of who gets a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.registry import Layer
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.layerwise import run_watched
from caffe_ssd.net.plan import Step
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text

DATA = """
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 }
  data_filler { value: 1 } data_filler { value: 0 } } }
"""
REGRESSION = """
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 4 weight_filler { value: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
READER = 'layer { name: "twice" type: "Power" bottom: "loss" top: "twice" power_param { scale: 2 }'


def build(text: str) -> Net:
    state = NetState(phase=0)  # type: ignore[arg-type]
    return build_net(parse_text(DATA + text, NetParameter()), state)


class Names:
    """Remembers who ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def forward(self, step: Step, layer: Layer, tops: Sequence[Tensor]) -> None:
        self.ran.append(step.param.name)

    def backward(self, step: Step, layer: Layer, diffs: Sequence[Tensor | None]) -> None:
        self.ran.append(f"-{step.param.name}")


@pytest.mark.parametrize(
    ("reader", "loss", "ran"),
    [
        ("", 18, ["-loss", "-ip"]),
        (READER + "loss_weight: 0.5 }", 18 + 36 / 2, ["-twice", "-loss", "-ip"]),
        (READER + "}", 18, []),  # an idle reader keeps its loss from training anything
    ],
)
def test_one_by_one_equals_the_whole(reader: str, loss: float, ran: list[str]) -> None:
    whole, parts = (build(REGRESSION + reader) for _ in range(2))
    result = whole()
    if ran:
        result.loss.backward()
    names = Names()
    watched = run_watched(parts, names, backward=True)
    assert watched.loss.item() == result.loss.item() == loss
    assert [name for name in names.ran if name[0] == "-"] == ran
    torch.testing.assert_close(watched.blobs, result.blobs)
    for mine, theirs in zip(whole.learnable, parts.learnable, strict=True):
        torch.testing.assert_close(mine.blob.grad, theirs.blob.grad)


def test_a_reader_s_gradient_replaces_the_weight() -> None:
    net = build(REGRESSION + READER + "loss_weight: 1 }")
    result = net()
    assert result.loss.item() == 18 + 36
    result.loss.backward()
    # d loss / d w = x^T (ip - y) / 2 = 3, times the reader's 2, without the weight's 1
    assert net.learnable[0].blob.grad.unique().tolist() == [6]


def test_batch_norm_counts_as_learning_where_the_prototxt_does_not_say() -> None:
    net = build(
        'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "bn" }'
        'layer { name: "l" type: "Reduction" bottom: "bn" top: "l" loss_weight: 1 }'
        'layer { name: "s" type: "Silence" bottom: "y" }'
    )
    assert [step.needs_backward for step in net.steps] == [False, True, True, False]
    assert net.steps[1].param_flags == (True, True, True)
    assert [entry.lr_mult for entry in net.learnable] == [0, 0, 0]


def test_layers_without_backward_are_named() -> None:
    net = build(
        "force_backward: true "
        'layer { name: "a" type: "ArgMax" bottom: "x" top: "a" }'
        'layer { name: "s" type: "Silence" bottom: "y" }'
    )
    with pytest.raises(LayerError, match=r"layer 'a' \(ArgMax\): has no backward pass"):
        run_watched(net, Names(), backward=True)
