"""Keeps threads that share a net from mixing up its blobs.

A net has one set of blobs, so threads may use it in turn, but not at the same time. Those that take
turns under a lock of their own notice nothing of this; the others get an error.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from caffe_ssd.errors import NetError
from caffe_ssd.layers.blob import Memory

_MIXED = (
    "two threads use this net at the same time, so that its blobs would hold numbers of both; "
    "build a net for each thread (net.share_with(other) shares the weights), or hold a lock from "
    "the first assignment to the last use of a result"
)


class ThreadGuard:
    """Watches over one net."""

    def __init__(self) -> None:
        self._pass = threading.RLock()
        self._touches: list[tuple[int, Memory]] = []  # threads and inputs, since the last pass
        self._last_pass = 0

    def touch(self, memory: Memory) -> None:
        """An input's array is handed out."""
        self._touches.append((threading.get_ident(), memory))

    @contextmanager
    def passing(self) -> Iterator[bool]:
        """A block in which a pass runs; gives whether the pass before was another thread's.

        Raises:
            NetError: another thread's pass is running, or has got hold of the inputs meanwhile.
        """
        me = threading.get_ident()
        if not self._pass.acquire(blocking=False):
            raise NetError(_MIXED)
        try:
            touches, self._touches = self._touches, []
            self._check(me, touches)
            changed, self._last_pass = self._last_pass not in (0, me), me
            yield changed
        finally:
            self._pass.release()

    @staticmethod
    def _check(me: int, touches: Sequence[tuple[int, Memory]]) -> None:
        """Others must not have looked at an input since I did, nor be about to write to it."""
        mine = [i for i, (thread, _) in enumerate(touches) if thread == me]
        for i, (thread, memory) in enumerate(touches):
            if mine and thread != me and (i > mine[-1] or memory.is_held):
                raise NetError(_MIXED)
