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

from caffe_ssd.data.batches import Batch, Reader
from caffe_ssd.data.workers import Workers

# Finished batches that wait for their use; more would only hold memory.
AHEAD = 2


class BatchLoader:
    """Hands out batches in order; nothing is read or started before the first one.

    Args:
        reader: reads a batch by its number.
        workers: processes that do so; with 0 it is one thread of this process.

    Attributes:
        listeners: told of each batch that is handed out, and of the seconds it was waited for.
        ahead: finished batches that wait for their use at most.
    """

    def __init__(self, reader: Reader, *, workers: int = 0) -> None:
        self.reader = reader
        self.workers = workers
        self.listeners: list[Callable[[Batch, float], None]] = []
        self.ahead = AHEAD
        self._next_batch = 0
        self._batches: Iterator[Batch] | None = None

    def next(self) -> Batch:
        """The next batch; see `Reader.read`.

        Raises:
            DataError: a record is wrong, or a worker process died; a further call tries again.
        """
        if self._batches is None:
            start = _in_processes if self.workers > 0 else _in_thread
            self._batches = start(self.reader, self._next_batch, self.workers, self.ahead)
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
        return batch

    def seek(self, batch: int) -> None:
        """Make `batch` the number of the next batch; the first one is 0."""
        if batch != self._next_batch:
            self.close()
            self._next_batch = batch

    def close(self) -> None:
        """Stop computing ahead and end the workers; `next` starts them again."""
        self._batches = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_batches": None, "listeners": []}


def _in_thread(reader: Reader, start: int, workers: int, ahead: int) -> Iterator[Batch]:
    return _ahead(reader.read, start, ahead, wait=True)


def _in_processes(reader: Reader, start: int, workers: int, ahead: int) -> Iterator[Batch]:
    processes = Workers(reader, start=start, count=workers)
    try:
        yield from _ahead(processes.read, start, ahead, wait=False)
    finally:
        processes.close()


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
