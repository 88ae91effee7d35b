"""A gradient that would have to pass a layer without one ends the pass, with the layer's name."""

from __future__ import annotations

import pytest

from caffe_ssd.errors import LayerError
from tests.net.test_building import INPUT, build, fc

LOSS = (
    'layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 3 } } }'
    'layer { name: "l" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "l" }'
)
THRESHOLD = 'layer { name: "hard" type: "Threshold" bottom: "y" top: "z" }'
EMBED = (
    'layer { name: "words" type: "Embed" bottom: "y" top: "z" '
    "embed_param { input_dim: 4 num_output: 3 } }"
    'layer { name: "l" type: "Reduction" bottom: "z" top: "l" loss_weight: 1 }'
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (THRESHOLD + LOSS, r"layer 'hard' \(Threshold\): has no backward pass; set propagate_down"),
        (EMBED, r"layer 'words' \(Embed\): has no gradient with respect to its indices; set"),
    ],
)
def test_the_layer_is_named(text: str, complaint: str) -> None:
    result = build(INPUT + fc("a", "x", "y") + text)()
    with pytest.raises(LayerError, match=complaint):
        result.loss.backward()


@pytest.mark.parametrize("text", [THRESHOLD + LOSS, EMBED])
def test_a_fixed_layer_below_asks_for_none(text: str) -> None:
    net = build(INPUT + fc("a", "x", "y", "param { lr_mult: 0 } param { lr_mult: 0 }") + text)
    loss = net().loss
    assert loss.requires_grad == any(entry.lr_mult for entry in net.learnable)
    if loss.requires_grad:
        loss.backward()
