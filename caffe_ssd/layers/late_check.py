"""Checks of what lies on a device, whose outcome is asked for later: asking means to wait."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


class LateCheck:
    """Collects what was found wrong until somebody asks.

    Attributes:
        puts_off: whether to put off what would mean to wait; on the CPU nothing is put off.
    """

    def __init__(self) -> None:
        self.puts_off = True
        self._wrong: Tensor | None = None
        self._explain: Callable[[], None] | None = None

    def note(self, wrong: Tensor, explain: Callable[[], None]) -> None:
        """Take down one outcome.

        Args:
            wrong: a boolean without axes.
            explain: raises the error, called if it is true.
        """
        if wrong.device.type == "cpu" or not self.puts_off:
            if bool(wrong):
                explain()
            return
        self._wrong = wrong if self._wrong is None else self._wrong | wrong
        self._explain = explain

    def read(self) -> None:
        """Wait for the device, and raise the error if anything noted was wrong."""
        wrong, explain, self._wrong, self._explain = self._wrong, self._explain, None, None
        if wrong is not None and explain is not None and bool(wrong):
            explain()
