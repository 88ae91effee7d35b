"""Turns signals into actions of the solver.

Spec: caffe-net.md section 19; caffe-solver.md section 7. SIGHUP is looked at before SIGINT. A
second SIGINT after the one that stops ends the process at once. Windows has no SIGHUP.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from caffe_ssd.solver.hooks import Action

logger = logging.getLogger(__name__)


class SignalActions:
    """Remembers signals until the solver asks; use `watch`.

    Args:
        effects: what each signal asks for, in order of precedence.
    """

    def __init__(self, effects: dict[signal.Signals, Action]) -> None:
        self._effects = effects
        self._pending: set[int] = set()
        self._stops = False

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler.

        Raises:
            KeyboardInterrupt: a stop was asked for before.
        """
        if self._effects[signal.Signals(number)] is Action.STOP:
            if self._stops:
                raise KeyboardInterrupt
            self._stops = True
        self._pending.add(number)

    def action(self) -> Action:
        """The action of the first pending signal, which is then forgotten."""
        for number, action in self._effects.items():
            if number in self._pending:
                self._pending.remove(number)
                if action is Action.STOP:
                    logger.warning("Stopping; a second Ctrl-C stops at once and saves nothing.")
                return action
        return Action.NONE


@contextmanager
def watch(*, sigint_effect: str, sighup_effect: str) -> Iterator[SignalActions]:
    """Catch SIGINT, and SIGHUP where there is one, while the block runs.

    Args:
        sigint_effect: "stop", "snapshot" or "none".
        sighup_effect: likewise.
    """
    effects = {signal.SIGINT: Action(sigint_effect)}
    if hasattr(signal, "SIGHUP"):
        effects = {signal.SIGHUP: Action(sighup_effect), **effects}
    actions = SignalActions(effects)
    before = {number: signal.signal(number, actions.receive) for number in effects}
    try:
        yield actions
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
