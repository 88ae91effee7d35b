"""Processes that compute batches.

Worker w of k computes batches w, w + k, w + 2k, ... and sends them through its own pipe.
It computes one when it gets its number, so it never runs further ahead than it has numbers.

Signals to stop are the parent's business: schedulers send them to every process of a job, and the
parent still needs batches until it has made its snapshot. A worker ends when the parent ends it, or
when its pipe tells that the parent is gone.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util  # its own handler at exit waits for workers: ours must run before it
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch

from caffe_ssd.data.batches import Batch, Reader
from caffe_ssd.devices import keep_freed_memory
from caffe_ssd.errors import CaffeError, DataError

# Batches a worker computes ahead: one travels while the next one is made.
_EACH_AHEAD = 2

Pipe: TypeAlias = "Connection[object, object]"


class Workers:
    """Starts the processes; they do nothing before `begin`.

    Args:
        reader: what each of them reads with.
        count: how many processes, at least 1.
    """

    def __init__(self, reader: Reader, *, count: int) -> None:
        # Forked workers need no importable main module; scripts without a main guard have none.
        forks = "fork" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("fork" if forks else None)
        self._pipes: list[Pipe] = []
        self._processes: list[BaseProcess] = []
        self._is_closing = False
        atexit.register(self._kill)
        for worker in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            inherited = tuple(self._pipes) if forks else ()
            process = context.Process(
                target=_work,
                args=(reader, theirs, inherited),
                name=f"caffe-data-{worker}",
                daemon=True,
            )
            with _ready_to_fork():
                process.start()
            self._processes.append(process)
            theirs.close()

    def begin(self, batch: int) -> None:
        """Have them compute; `read` must be called with this number and those that follow it."""
        for number in range(batch, batch + self._num_ahead):
            with suppress(OSError):  # `read` tells of a worker that has died
                self._pipe(number).send(number)

    def read(self, batch: int) -> Batch:
        """The next batch; see `Reader.read`.

        Raises:
            DataError: a record is wrong, or the worker died.
        """
        pipe = self._pipe(batch)
        try:
            header: Any = pipe.recv()
            if isinstance(header, CaffeError):
                raise header
            tops = tuple(_receive(pipe, shape, dtype) for shape, dtype in header)
            pipe.send(batch + self._num_ahead)
        except (EOFError, OSError):
            # Two threads that wait for one process may both miss its end.
            worker = self._pipes.index(pipe)
            if not self._is_closing:
                self._processes[worker].join(timeout=1)
            code = self._processes[worker].exitcode
            raise DataError(
                f"data worker {worker} ended unexpectedly (exit code {code}); an exit code of -9 "
                "usually means that the machine ran out of memory"
            ) from None
        return tops

    @property
    def _num_ahead(self) -> int:
        return _EACH_AHEAD * len(self._pipes)

    def _pipe(self, batch: int) -> Pipe:
        return self._pipes[batch % len(self._pipes)]

    def close(self) -> None:
        """End the processes; they hold nothing that needs an orderly end."""
        atexit.unregister(self._kill)
        self._kill()

    def _kill(self) -> None:
        self._is_closing = True
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


def _receive(pipe: Pipe, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    top = np.empty(shape, dtype)
    pipe.recv_bytes_into(top.data.cast("B"))
    return torch.from_numpy(top)


def _work(reader: Reader, pipe: Pipe, inherited: Sequence[Pipe]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # With the parent's ends open here, its sudden death would not end the pipe.
    for other in inherited:
        other.close()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory(huge_blocks=False)
    try:
        while True:
            batch: Any = pipe.recv()
            _send(pipe, reader, batch)
    except (EOFError, OSError):
        os._exit(0)


def _send(pipe: Pipe, reader: Reader, batch: int) -> None:
    try:
        tops = [np.ascontiguousarray(top.numpy()) for top in reader.read(batch)]
    except CaffeError as error:
        pipe.send(error)
        return
    pipe.send([(top.shape, top.dtype.str) for top in tops])
    for top in tops:
        pipe.send_bytes(top.data.cast("B"))


@contextmanager
def _ready_to_fork() -> Iterator[None]:
    """Hold back signals to stop until the worker ignores them, and a warning of running threads."""
    masks = hasattr(signal, "pthread_sigmask")
    # A forked worker inherits the mask and never lifts it.
    stopping = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping) if masks else set()
    try:
        with warnings.catch_warnings():
            # The worker touches nothing that these threads may have locked.
            warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
            yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
