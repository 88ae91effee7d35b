"""Checks of what lies on a device, whose outcome is asked for later: asking means to wait."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError


class LateCheck:
    """Collects what was found wrong until somebody asks.

    What is collected stays in one place of the device's memory, as who repeats a pass without
    calling its layers (a CUDA graph) writes there, too.

    Attributes:
        puts_off: whether to put off what would mean to wait; on the CPU nothing is put off.
    """

    def __init__(self) -> None:
        self.puts_off = True
        self._wrong: Tensor | None = None
        self._explain: Callable[[], None] | None = None
        self._summary = ""

    def note(self, wrong: Tensor, explain: Callable[[], None], summary: str) -> None:
        """Take down one outcome.

        Args:
            wrong: a boolean without axes.
            explain: raises the error, called if it is true.
            summary: what is wrong, for the error where `explain` does not find it any more.
        """
        if wrong.device.type == "cpu" or not self.puts_off:
            if bool(wrong):
                explain()
            return
        if self._wrong is None or self._wrong.device != wrong.device:
            self._wrong = torch.zeros_like(wrong)
        self._wrong.logical_or_(wrong)
        self._explain, self._summary = explain, summary

    def read(self) -> None:
        """Wait for the device, and raise the error if anything noted was wrong.

        Raises:
            LayerError: something was.
        """
        if self._wrong is None or self._explain is None or not bool(self._wrong):
            return
        self._wrong.zero_()
        self._explain()
        raise LayerError(f"{self._summary} in an earlier batch")
