"""Learning-rate policies against the formulas, iteration by iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffe_ssd.errors import SolverError
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.policies import FLT_MAX, ScheduleState, learning_rate


def settings(policy: str, **fields: object) -> SolverParameter:
    return SolverParameter(base_lr=0.1, lr_policy=policy, **fields)  # type: ignore[arg-type]


def rates(param: SolverParameter, count: int, losses: list[float] | None = None) -> list[float]:
    state, found = ScheduleState(), []
    for i in range(count):
        loss = losses[i] if losses else math.nan
        rate, state = learning_rate(param, i, state, loss)
        found.append(rate)
    return found


@pytest.mark.parametrize(
    ("param", "formula"),
    [
        (settings("fixed"), lambda t: 0.1),
        (settings("step", gamma=0.5, stepsize=3), lambda t: 0.1 * 0.5 ** (t // 3)),
        (settings("exp", gamma=0.9), lambda t: 0.1 * 0.9**t),
        (settings("inv", gamma=0.3, power=0.75), lambda t: 0.1 * (1 + 0.3 * t) ** -0.75),
        (settings("poly", power=2, max_iter=9), lambda t: 0.1 * (1 - t / 9) ** 2),
        (
            settings("sigmoid", gamma=-0.4, stepsize=4),
            lambda t: 0.1 / (1 + math.exp(0.4 * (t - 4))),
        ),
        (
            settings("multistep", gamma=0.1, stepvalue=[2, 5]),
            lambda t: 0.1 * 0.1 ** sum(t >= value for value in (2, 5)),
        ),
    ],
    ids=lambda value: value.lr_policy if isinstance(value, SolverParameter) else "",
)
def test_follows_its_formula(param: SolverParameter, formula: object) -> None:
    want = [formula(t) for t in range(8)]  # type: ignore[operator]
    np.testing.assert_allclose(rates(param, 8), want, rtol=1e-6)


def test_is_a_float32_number() -> None:
    (rate,) = rates(settings("fixed"), 1)
    assert rate == float(np.float32(0.1))


def test_step_keeps_its_position() -> None:
    _, state = learning_rate(settings("step", gamma=0.5, stepsize=3), 7, ScheduleState())
    assert state.current_step == 2


def test_multistep_catches_up_one_step_per_call() -> None:
    param = settings("multistep", gamma=0.1, stepvalue=[2, 5, 7])
    state, steps = ScheduleState(), []
    for iteration in (100, 101, 102, 103):
        _, state = learning_rate(param, iteration, state)
        steps.append(state.current_step)
    assert steps == [1, 2, 3, 3]


def test_plateau_drops_when_the_loss_stays() -> None:
    param = settings("plateau", gamma=0.5, plateau_winsize=[2, 3])
    #           new   new   same  drop  same  same  drop  no windows left
    losses = [3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5]
    want = [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025, 0.025, 0.025]
    np.testing.assert_allclose(rates(param, 10, losses), want, rtol=1e-6)


def test_plateau_notes_minima() -> None:
    param = settings("plateau", gamma=0.5, plateau_winsize=[5])
    _, state = learning_rate(param, 3, ScheduleState(), 1.5)
    assert state == ScheduleState(minimum_loss=1.5, iter_last_event=3)
    _, state = learning_rate(param, 4, state, math.nan)
    assert state == ScheduleState(minimum_loss=1.5, iter_last_event=3)
    assert ScheduleState().minimum_loss == FLT_MAX


def test_poly_beyond_its_end_is_not_a_number() -> None:
    rate, _ = learning_rate(settings("poly", power=0.5, max_iter=4), 6, ScheduleState())
    assert math.isnan(rate)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (settings("cosine"), "unknown lr_policy 'cosine'; known: fixed, step, exp"),
        (settings("multi_step"), "did you mean 'multistep'"),
        (settings("step", gamma=0.1), "needs stepsize > 0, got 0"),
        (settings("poly", power=1), "needs max_iter > 0, got 0"),
    ],
)
def test_refuses(param: SolverParameter, message: str) -> None:
    with pytest.raises(SolverError, match=message):
        learning_rate(param, 0, ScheduleState())


@pytest.mark.parametrize("policy", ["step", "exp", "inv", "poly", "sigmoid"])
def test_rates_are_float32(policy: str) -> None:
    param = SolverParameter(base_lr=0.1, lr_policy=policy, gamma=0.3, power=0.7)
    param.stepsize, param.max_iter = 2, 9
    rate, _ = learning_rate(param, 5, ScheduleState())
    assert rate == float(np.float32(rate))
