"""Batches in sequence, computed ahead of their use.

Spec: ssd-layers.md section 8.

A batch depends on its number alone (see `batches`), so neither the number of workers nor where the
reading starts changes it.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from caffe_ssd.data.batches import Batch, BatchReader
from caffe_ssd.errors import CaffeError, DataError

# Finished batches a thread keeps ready; more would only hold memory.
_AHEAD = 2


class BatchLoader:
    """Hands out batches in order; nothing is read or started before the first one.

    Args:
        reader: reads a batch by its number.
        workers: processes that do so; with 0 it is one thread of this process.
    """

    def __init__(self, reader: BatchReader, *, workers: int = 0) -> None:
        self.reader = reader
        self.workers = workers
        self._next_batch = 0
        self._batches: Iterator[Batch] | None = None

    def next(self) -> Batch:
        """The next batch; see `BatchReader.read`.

        Raises:
            DataError: a record is wrong, or a worker process died; a further call tries again.
        """
        if self._batches is None:
            self._batches = self._start()
        try:
            batch = next(self._batches)
        except BaseException:
            self.close()
            raise
        self._next_batch += 1
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
        return {**self.__dict__, "_batches": None}

    def _start(self) -> Iterator[Batch]:
        if self.workers > 0:
            return _in_processes(self.reader, self._next_batch, self.workers)
        return _in_thread(self.reader, self._next_batch)


def _in_thread(reader: BatchReader, start: int) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="caffe-data")
    pending: deque[Future[Batch]] = deque()
    try:
        for batch in count(start):
            pending.append(pool.submit(reader.read, batch))
            if len(pending) > _AHEAD:
                yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _in_processes(reader: BatchReader, start: int, workers: int) -> Iterator[Batch]:
    # Forked workers need no importable main module, as scripts without a main guard have none.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    loader: DataLoader[Batch | CaffeError] = DataLoader(
        _Attempts(reader),
        batch_size=None,
        sampler=_From(start),
        num_workers=workers,
        worker_init_fn=_set_up_worker,
        multiprocessing_context=method,
        # Its own, as the loader would otherwise draw from the stream of the net's dropout masks.
        generator=torch.Generator(),
    )
    with warnings.catch_warnings():
        # The worker runs no code of the threads it warns about.
        warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
        batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except RuntimeError as error:
            raise DataError(f"a data worker process failed: {error}") from error
        if isinstance(batch, CaffeError):
            raise batch
        yield tuple(batch)


class _Attempts(Dataset["Batch | CaffeError"]):
    """A batch, or the error it ended in, so that the error crosses to the parent as it is."""

    def __init__(self, reader: BatchReader) -> None:
        self._reader = reader

    def __getitem__(self, batch: int) -> Batch | CaffeError:
        try:
            return self._reader.read(batch)
        except CaffeError as error:
            return error


class _From(Iterable[int]):
    """start, start + 1, ..."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return count(self._start)


def _set_up_worker(worker: int) -> None:
    # A Ctrl-C reaches the whole process group; the parent decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
