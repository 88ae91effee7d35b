"""Update rules, clipping and weight decay against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caffe_ssd.errors import SolverError
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.updates import (
    RuleSettings,
    clip_gradients,
    regularize,
    rule_settings,
    update_rule,
)

Floats = NDArray[np.float64]
SHAPES = [(2, 3), (4,), (1, 5, 2)]
RATES = [0.1, 0.02, 0.0]
SETTINGS = RuleSettings(momentum=0.8, momentum2=0.95, rms_decay=0.9, delta=1e-3)


def naive(kind: str, g: Floats, h: list[Floats], r: float, t: int) -> tuple[Floats, list[Floats]]:
    """One rule for one blob, as the specification writes it."""
    s = SETTINGS
    if kind == "SGD":
        new = s.momentum * h[0] + r * g
        return new, [new]
    if kind == "Nesterov":
        new = s.momentum * h[0] + r * g
        return (1 + s.momentum) * new - s.momentum * h[0], [new]
    if kind == "AdaGrad":
        new = h[0] + g**2
        return r * g / (np.sqrt(new) + s.delta), [new]
    if kind == "RMSProp":
        new = s.rms_decay * h[0] + (1 - s.rms_decay) * g**2
        return r * g / (np.sqrt(new) + s.delta), [new]
    if kind == "AdaDelta":
        new = s.momentum * h[0] + (1 - s.momentum) * g**2
        u = g * np.sqrt((h[1] + s.delta) / (new + s.delta))
        return r * u, [new, s.momentum * h[1] + (1 - s.momentum) * u**2]
    m = s.momentum * h[0] + (1 - s.momentum) * g
    v = s.momentum2 * h[1] + (1 - s.momentum2) * g**2
    c = np.sqrt(1 - s.momentum2 ** (t + 1)) / (1 - s.momentum ** (t + 1))
    return r * c * m / (np.sqrt(v) + s.delta), [m, v]


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_rule_follows_the_specification(kind: str) -> None:
    param = SolverParameter(type=kind)
    rule = update_rule(param)
    random = np.random.RandomState(3)
    history = [torch.zeros(shape) for _ in range(rule.num_histories) for shape in SHAPES]
    want_history = [[np.zeros(shape) for _ in range(rule.num_histories)] for shape in SHAPES]
    for t in range(4):
        gradients = [random.randn(*shape) for shape in SHAPES]
        tensors = [torch.tensor(g, dtype=torch.float32) for g in gradients]
        updates = rule.apply(tensors, history, RATES, SETTINGS, t)
        for i, g in enumerate(gradients):
            want, want_history[i] = naive(kind, g, want_history[i], RATES[i], t)
            np.testing.assert_allclose(updates[i], want, rtol=1e-5, atol=1e-6)
            for j, h in enumerate(want_history[i]):
                np.testing.assert_allclose(history[j * len(SHAPES) + i], h, rtol=1e-5, atol=1e-6)


def test_momentum_is_zero_unless_given() -> None:
    assert rule_settings(SolverParameter(type="Adam")).momentum == 0


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (SolverParameter(type="Lion"), "unknown solver type 'Lion'; known: SGD, Nesterov"),
        (SolverParameter(type="Adem"), "did you mean 'Adam'"),
        (SolverParameter(type="AdaGrad", momentum=0.9), "AdaGrad takes no momentum, got .*0.9"),
        (SolverParameter(type="RMSProp", momentum=0.9), "RMSProp takes no momentum"),
        (SolverParameter(type="RMSProp", rms_decay=1), "rms_decay must be .* below 1, got 1"),
        (SolverParameter(type="RMSProp", rms_decay=-0.1), "rms_decay must be at least 0"),
    ],
)
def test_refuses(param: SolverParameter, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        update_rule(param)


def test_clipping_scales_the_joint_norm() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    clipping = clip_gradients(gradients, 2.5)
    assert clipping is not None
    assert (clipping.norm, clipping.limit, clipping.scale) == (5.0, 2.5, 0.5)
    assert [g.flatten().tolist() for g in gradients] == [[1.5, 0.0], [2.0]]


@pytest.mark.parametrize("limit", [5.0, 7.0, -1.0])
def test_clipping_leaves_small_gradients(limit: float) -> None:
    gradients = [torch.tensor([3.0, 4.0])]
    assert clip_gradients(gradients, limit) is None
    assert gradients[0].tolist() == [3.0, 4.0]


def test_clipping_to_zero_and_without_gradients() -> None:
    gradients = [torch.tensor([3.0, 4.0])]
    assert clip_gradients(gradients, 0) is not None
    assert gradients[0].tolist() == [0.0, 0.0]
    assert clip_gradients([], 1.0) is None


@pytest.mark.parametrize(
    ("kind", "want"), [("L2", [1.0 - 0.2, 1.0, 1.0 + 0.4]), ("L1", [0.9, 1.0, 1.1])]
)
def test_decay_becomes_part_of_the_gradient(kind: str, want: list[float]) -> None:
    weights = [torch.tensor([-2.0, 0.0, 4.0]), torch.tensor([7.0])]
    gradients = [torch.ones(3), torch.ones(1)]
    regularize(gradients, weights, [0.1, 0.0], kind)
    np.testing.assert_allclose(gradients[0], want, rtol=1e-6)
    assert gradients[1].item() == 1
    assert weights[0].tolist() == [-2.0, 0.0, 4.0]


def test_unknown_decay_matters_only_with_decay() -> None:
    regularize([torch.ones(1)], [torch.ones(1)], [0.0], "L3")
    with pytest.raises(SolverError, match="unknown regularization_type 'L3'; known: L1, L2"):
        regularize([torch.ones(1)], [torch.ones(1)], [0.1], "L3")
