"""How the outside world takes part in an optimisation: actions, callbacks and observers.

Spec: caffe-solver.md sections 2 and 8.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caffe_ssd.solver.testing import TestResult


class Action(Enum):
    """What somebody outside (a signal, say) wants from the solver."""

    NONE = "none"
    STOP = "stop"
    SNAPSHOT = "snapshot"


def no_action() -> Action:
    """The default source of actions: nobody wants anything."""
    return Action.NONE


class SecondSignal:
    """Finds the signal to stop that comes after one.

    A scheduler and a script that hands signals on may both deliver the same one, so a second one
    counts only if it is not there at once.
    """

    SAME_S = 0.2

    def __init__(self) -> None:
        self._first: float | None = None

    def is_second(self) -> bool:
        """Note a signal to stop; whether one came before it."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        return now - self._first > self.SAME_S


def _nothing() -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Callback:
    """Three places in every iteration.

    Args:
        on_start: before the forward pass; parameters may be replaced.
        on_last_pass: before the pass whose backward pass completes the gradients.
        on_gradients_ready: after the last backward pass; gradients may be changed in place.
    """

    on_start: Callable[[], None] = _nothing
    on_last_pass: Callable[[], None] = _nothing
    on_gradients_ready: Callable[[], None] = _nothing


class Observer:
    """Watches an optimisation without taking part; override what is of interest."""

    def on_iteration(self, iteration: int) -> None:
        """`iteration` updates are done."""

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        """The solver displays an iteration: its smoothed loss and its learning rate."""

    def on_test_batch(self, index: int, done: int, total: int) -> None:
        """Test net `index` has done that many of its passes."""

    def on_test(self, result: TestResult) -> None:
        """A test net was scored."""

    def on_snapshot(self, iteration: int, paths: tuple[str, str]) -> None:
        """The files of the model and of the state after `iteration` updates are written."""
