"""Keeps threads that share a net from mixing up its blobs.

A net has one set of blobs, so threads may use it in turn, but not at the same time. Those that take
turns under a lock of their own notice nothing of this; the others get an error.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from caffe_ssd.errors import NetError

_MIXED = (
    "two threads use this net at the same time, so that its blobs would hold numbers of both; "
    "build a net for each thread (net.share_with(other) shares the weights), or hold a lock from "
    "the first assignment to the last use of a result"
)


class _Touch:
    """A thread's hold of an input: from when to when."""

    def __init__(self, clock: Iterator[int], lease: object) -> None:
        self.begin = next(clock)
        self.end: int | None = None
        self._lease = weakref.ref(lease, lambda _: self._close(clock))

    def _close(self, clock: Iterator[int]) -> None:
        self.end = next(clock)


class ThreadGuard:
    """Watches over one net."""

    def __init__(self) -> None:
        self._pass = threading.RLock()
        self._clock = itertools.count()
        self._touches: dict[int, _Touch] = {}  # the last of each thread
        self._last_pass = 0

    def touch(self, lease: object) -> None:
        """An input's array is handed out; it lives as long as its lease."""
        self._touches[threading.get_ident()] = _Touch(self._clock, lease)

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
            begin = next(self._clock)
            changed, self._last_pass = self._last_pass not in (0, me), me
            yield changed
            self._check(me, begin)
        finally:
            self._pass.release()

    def _check(self, me: int, begin: int) -> None:
        """Nobody else may have had an input in hand since I got hold of it, or since `begin`."""
        mine = self._touches.get(me)
        since = begin if mine is None else mine.begin
        for thread, other in list(self._touches.items()):
            is_late = other.begin > since
            is_long = mine is not None and (other.end is None or other.end > since)
            if thread != me and (is_late or is_long):
                raise NetError(_MIXED)
