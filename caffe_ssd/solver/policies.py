"""Learning-rate policies: the rate of one iteration, and the schedule's position after it.

Spec: caffe-solver.md section 5. A policy is a pure function of the solver's settings, the
iteration, a `ScheduleState` and, for `plateau`, the smoothed loss; rates are rounded to float32.

Quirk: `multistep` moves on by at most one step per call, so a state that lags catches up slowly.
Quirk: `multistep` and `plateau` keep their position in the state; the iteration does not give it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np

from caffe_ssd.errors import SolverError
from caffe_ssd.proto.caffe_pb2 import SolverParameter

FLT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class ScheduleState:
    """Where a schedule stands; saved in snapshots.

    Args:
        current_step: how often the rate has dropped.
        minimum_loss: the lowest smoothed loss so far (plateau).
        iter_last_event: the iteration of the last minimum or drop (plateau).
    """

    current_step: int = 0
    minimum_loss: float = FLT_MAX
    iter_last_event: int = 0


Policy: TypeAlias = Callable[
    [SolverParameter, int, ScheduleState, float], tuple[float, ScheduleState]
]


def learning_rate(
    param: SolverParameter,
    iteration: int,
    state: ScheduleState,
    smoothed_loss: float = float("nan"),
) -> tuple[float, ScheduleState]:
    """The global rate of one iteration (a float32 value) and the state after it.

    Args:
        param: the solver's settings.
        iteration: the number of completed updates.
        state: the state after the previous iteration.
        smoothed_loss: includes this iteration; only `plateau` looks at it.

    Raises:
        SolverError: the policy is unknown or a setting it needs is missing.
    """
    check_policy(param)
    with np.errstate(all="ignore"):  # as in C, an impossible power is a nan or an infinity
        rate, state = _POLICIES[param.lr_policy](param, iteration, state, smoothed_loss)
        return float(np.float32(rate)), state


def check_policy(param: SolverParameter) -> None:
    """Refuse settings no rate can be computed from.

    Raises:
        SolverError: see `learning_rate`.
    """
    policy = param.lr_policy
    if policy not in _POLICIES:
        close = get_close_matches(policy, _POLICIES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SolverError(f"unknown lr_policy {policy!r}; {hint}known: {', '.join(_POLICIES)}")
    if policy == "step" and param.stepsize <= 0:
        raise SolverError(f"lr_policy 'step' needs stepsize > 0, got {param.stepsize}")
    if policy == "poly" and param.max_iter <= 0:
        raise SolverError(f"lr_policy 'poly' needs max_iter > 0, got {param.max_iter}")


def needs_loss(param: SolverParameter) -> bool:
    """Whether the policy looks at the loss of every iteration."""
    return param.lr_policy == "plateau"


def _fixed(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    return param.base_lr, state


def _step(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    state = replace(state, current_step=iteration // param.stepsize)
    return _dropped(param, state), state


def _exp(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    return param.base_lr * np.float64(param.gamma) ** iteration, state


def _inv(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    return param.base_lr * np.float64(1 + param.gamma * iteration) ** -param.power, state


def _multistep(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    step = state.current_step
    if step < len(param.stepvalue) and iteration >= param.stepvalue[step]:
        state = replace(state, current_step=step + 1)
    return _dropped(param, state), state


def _poly(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    return param.base_lr * np.float64(1 - iteration / param.max_iter) ** param.power, state


def _sigmoid(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    return param.base_lr / (1 + np.exp(-param.gamma * (iteration - param.stepsize))), state


def _plateau(
    param: SolverParameter, iteration: int, state: ScheduleState, loss: float
) -> tuple[float, ScheduleState]:
    if loss < state.minimum_loss:
        state = replace(state, minimum_loss=loss, iter_last_event=iteration)
    step = state.current_step
    if (
        step < len(param.plateau_winsize)
        and iteration >= state.iter_last_event + param.plateau_winsize[step]
    ):
        state = replace(state, current_step=step + 1, iter_last_event=iteration)
    return _dropped(param, state), state


def _dropped(param: SolverParameter, state: ScheduleState) -> float:
    return float(param.base_lr * np.float64(param.gamma) ** state.current_step)


_POLICIES: dict[str, Policy] = {
    "fixed": _fixed,
    "step": _step,
    "exp": _exp,
    "inv": _inv,
    "multistep": _multistep,
    "poly": _poly,
    "sigmoid": _sigmoid,
    "plateau": _plateau,
}
