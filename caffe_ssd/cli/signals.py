"""Turns signals into actions of the solver.

Spec: caffe-net.md section 19; caffe-solver.md section 7. SIGHUP is looked at before SIGINT.
SIGTERM, which schedulers send, stops like a Ctrl-C.

A second signal to stop ends the process at once, and its data workers with it. Python runs signal
handlers between two instructions of the main thread only, so a process that waits in a library for
a peer that hangs would never hear of it; a thread that reads the signals' numbers from a pipe does.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from caffe_ssd.desk import streams
from caffe_ssd.desk.console import AT_ONCE, STOPPED_AT_ONCE, tell
from caffe_ssd.solver.hooks import Action, SecondSignal

logger = logging.getLogger(__name__)


class SignalActions:
    """Remembers signals until the solver asks; use `watch`.

    Args:
        effects: what each signal asks for, in order of precedence.
    """

    def __init__(self, effects: dict[signal.Signals, Action]) -> None:
        self._effects = effects
        self._pending: set[int] = set()

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        self._pending.add(number)

    def action(self) -> Action:
        """The action of the first pending signal, which is then forgotten."""
        for number, action in self._effects.items():
            if number in self._pending:
                self._pending.remove(number)
                if action is Action.STOP:
                    logger.warning("Stopping; a second signal stops at once and saves nothing.")
                return action
        return Action.NONE


@contextmanager
def watch(
    *, sigint_effect: str, sighup_effect: str, sigterm_effect: str = "stop"
) -> Iterator[SignalActions]:
    """Catch SIGINT, SIGTERM and SIGHUP while the block runs.

    Args:
        sigint_effect: "stop", "snapshot" or "none".
        sighup_effect: likewise.
        sigterm_effect: likewise; "none" for processes that wait for somebody else's word. A second
            one ends them nevertheless.
    """
    effects = {
        signal.Signals[name]: Action(effect)
        for name, effect in (
            ("SIGHUP", sighup_effect),
            ("SIGINT", sigint_effect),
            ("SIGTERM", sigterm_effect),
        )
        if hasattr(signal, name)
    }
    ending = {number for number, action in effects.items() if action is Action.STOP}
    ending.add(signal.SIGTERM)
    actions = SignalActions(effects)
    with _ended_by_second(ending):
        before = {number: signal.signal(number, actions.receive) for number in effects}
        try:
            yield actions
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _ended_by_second(ending: set[signal.Signals]) -> Iterator[None]:
    """End the process at the second signal of these, whatever its main thread is doing."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signals come here
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(
        target=_read_signals, args=(reader, ending), name="caffe-signals", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")  # ends the thread; data workers hold the pipe open
        thread.join()
        os.close(reader)
        os.close(writer)


def _read_signals(reader: int, ending: set[signal.Signals]) -> None:
    seen = SecondSignal()
    while 0 not in (numbers := os.read(reader, 64)):
        for number in numbers:
            if number in ending and seen.is_second():
                end_at_once()


def end_at_once() -> None:
    """Leave now: no clean-up, nothing saved; the data workers end, too."""
    streams.leave_terminal()
    tell(f"caffe: {AT_ONCE}")
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(STOPPED_AT_ONCE)
