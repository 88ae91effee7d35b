"""Batches in sequence, computed ahead of their use.

Spec: ssd-layers.md section 8.

A batch depends on its number alone (see `batches`), so neither the number of workers nor where the
reading starts changes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import torch

from caffe_ssd.data.batches import Batch, Reader
from caffe_ssd.data.workers import Workers

# Finished batches that wait for their use; more would only hold memory.
AHEAD = 2


class BatchLoader:
    """Hands out batches in order; nothing is read before the first one.

    Args:
        reader: reads a batch by its number.
        workers: processes that do so; with 0 it is one thread of this process.

    Attributes:
        listeners: told of each batch that is handed out, and of the seconds it was waited for.
        ahead: finished batches that wait for their use at most.
    """

    _idle: Workers | None = None  # started, but nothing has been asked of them

    def __init__(self, reader: Reader, *, workers: int = 0) -> None:
        self.reader = reader
        self.workers = workers
        self.listeners: list[Callable[[Batch, float], None]] = []
        self.ahead = AHEAD
        self._next_batch = 0
        self._batches: Iterator[Batch] | None = None

    def start(self) -> None:
        """Start the workers, who wait for the first batch to be asked for.

        It is not needed, but forked processes should have nothing of a device's driver in them:
        whoever is about to use a device starts them before.
        """
        if self.workers > 0 and self._batches is None and self._idle is None:
            self._idle = Workers(self.reader, count=self.workers)

    def next(self, device: torch.device | None = None) -> Batch:
        """The next batch, finished; see `Reader`.

        Args:
            device: where it is to be finished, to which less then travels. The first top comes
                from there, the others stay on the host.

        Raises:
            DataError: a record is wrong, or a worker process died; a further call tries again.
        """
        if self._batches is None:
            self._batches = self._begin()
        begin = time.perf_counter()
        try:
            batch = next(self._batches)
        except BaseException:
            self._batches = None
            raise
        self._next_batch += 1
        waited_s = time.perf_counter() - begin
        for listener in self.listeners:
            listener(batch, waited_s)
        if device is not None:
            batch = (batch[0].to(device, non_blocking=True), *batch[1:])
        return self.reader.finish(batch)

    def seek(self, batch: int) -> None:
        """Make `batch` the number of the next batch; the first one is 0."""
        if batch != self._next_batch:
            self._batches = None
            self._next_batch = batch

    def close(self) -> None:
        """Stop computing ahead and end the workers; `next` starts them again."""
        self._batches = None
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _begin(self) -> Iterator[Batch]:
        if self.workers == 0:
            return _ahead(self.reader.read, self._next_batch, self.ahead, wait=True)
        self.start()
        workers, self._idle = self._idle, None
        assert workers is not None
        return _in_processes(workers, self._next_batch, self.ahead)

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_batches": None, "_idle": None, "listeners": []}


def _in_processes(workers: Workers, start: int, ahead: int) -> Iterator[Batch]:
    try:
        workers.begin(start)
        yield from _ahead(workers.read, start, ahead, wait=False)
    finally:
        workers.close()


def _ahead(read: Callable[[int], Batch], start: int, ahead: int, *, wait: bool) -> Iterator[Batch]:
    """What `read` returns for start, start + 1, ..., called in one thread and ahead of time.

    With `wait` the last call has ended when the iteration is closed, so that a reader that keeps a
    position, as in a video, never has two at once.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="caffe-data")
    pending: deque[Future[Batch]] = deque()
    try:
        for batch in count(start):
            pending.append(thread.submit(read, batch))
            if len(pending) > ahead:
                yield pending.popleft().result()
    finally:
        thread.shutdown(wait=wait, cancel_futures=True)
