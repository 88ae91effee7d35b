"""LSTM, RNN and LSTMUnit: states between calls, gradients, refusals."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError
from tests.layers.build import build, draw

X, CONT = (3, 2, 4), (3, 2)
SETTINGS = """recurrent_param {
    num_output: 5 weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { value: 0.1 }
}"""
TYPES = pytest.mark.parametrize("layer_type", ["LSTM", "RNN"])


@TYPES
def test_the_state_goes_on_unless_cont_is_zero(layer_type):
    x = draw(*X)
    whole = build(layer_type, SETTINGS, (6, 2, 4), (6, 2))
    parts = build(layer_type, SETTINGS, X, CONT)
    cont = torch.ones(6, 2)
    cont[0] = 0
    cont[4, 1] = 0
    both = torch.cat([x, x])
    want = whole(both, cont)
    torch.testing.assert_close(parts(x, cont[:3]), want[:3])
    torch.testing.assert_close(parts(x, cont[3:]), want[3:])
    again = parts(x, cont[:3])
    torch.testing.assert_close(again, want[:3])


@TYPES
def test_another_number_of_sequences_starts_anew(layer_type):
    layer = build(layer_type, SETTINGS, X, CONT)
    layer(draw(*X), torch.ones(CONT))
    fresh = build(layer_type, SETTINGS, X, CONT)
    x = draw(3, 7, 4)
    assert layer.top_shapes((3, 7, 4), (3, 7)) == ((3, 7, 5),)
    torch.testing.assert_close(layer(x, torch.ones(3, 7)), fresh(x, torch.ones(3, 7)))


@TYPES
def test_gradient(layer_type):
    layer = build(layer_type, SETTINGS, X, CONT, (2, 6)).double()
    cont = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    x = draw(*X, dtype=torch.float64).requires_grad_()
    static = draw(2, 6, seed=1, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, static, *blobs: layer(x, cont, static), (x, static, *layer.blobs)
    )


def test_exposed_states_carry_no_gradient():
    settings = SETTINGS.replace("5", "5 expose_hidden: true", 1)
    state = (1, 2, 5)
    layer = build("LSTM", settings, X, CONT, state, state, tops=3)
    hidden = draw(*state).requires_grad_()
    top, final_hidden, final_cell = layer(draw(*X), torch.ones(CONT), hidden, draw(*state))
    assert torch.equal(final_hidden[0], top[-1])
    assert final_cell.shape == state
    assert not final_hidden.requires_grad
    top.sum().backward()
    assert hidden.grad is None


def test_cont_has_no_gradient():
    unit = build("LSTMUnit", "", (1, 3, 2), (1, 3, 8), (1, 3), tops=2)
    cont = torch.ones(1, 3, requires_grad=True)
    for top in (
        build("RNN", SETTINGS, X, CONT)(draw(*X), torch.ones(CONT, requires_grad=True)),
        unit(draw(1, 3, 2), draw(1, 3, 8), cont)[1],
    ):
        with pytest.raises(LayerError, match=r"no gradient .* its sequence indicators"):
            top.sum().backward()


@TYPES
def test_refusals(layer_type):
    with pytest.raises(LayerParamError, match="num_output must be positive, got 0"):
        build(layer_type, "", X, CONT)
    with pytest.raises(ShapeError, match=r"bottom 1, .*, must have shape \[3, 2\], got \[3, 4\]"):
        build(layer_type, SETTINGS, X, (3, 4))
    with pytest.raises(ShapeError, match="static input, must have 2 items"):
        build(layer_type, SETTINGS, X, CONT, (3, 5))
    with pytest.raises(ShapeError, match="and one more for a static input, got 2"):
        build(layer_type, SETTINGS.replace("5", "5 expose_hidden: true", 1), X, CONT)
    with pytest.raises(ShapeError, match=r"must have shape \(3, N, I, \.\.\.\)"):
        build(layer_type, SETTINGS, X, CONT).top_shapes((4, 2, 4), (4, 2))
    with pytest.raises(ShapeError, match=r"must have shapes \(1, N, D\)"):
        build("LSTMUnit", "", (1, 3, 2), (1, 3, 6), (1, 3), tops=2)
