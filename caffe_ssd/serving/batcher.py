"""Gathers pictures of many clients into batches for one detector."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from caffe_ssd.scoring.detections import Detections
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.reading import Named
from caffe_ssd.scoring.sources import Picture


class _Waiting(NamedTuple):
    picture: Picture
    future: Future[Detections]


class Batcher:
    """One thread that looks at whatever waits, up to `detector.batch` pictures at once.

    A batch is one picture or a full one (filled up), so that engines prepare for two shapes only.

    Args:
        detector: looks.
        on_batch: is told how many pictures a batch had.
    """

    def __init__(self, detector: Detector, on_batch: Callable[[int], None] | None = None) -> None:
        self._detector = detector
        self._on_batch = on_batch
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="detect", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether pictures will be looked at."""
        return self._thread.is_alive()

    def submit(self, picture: Picture) -> Future[Detections]:
        """Have a picture looked at, with all that is found whatever its score.

        Args:
            picture: (height, width, 3), BGR, uint8.
        """
        future: Future[Detections] = Future()
        self._queue.put(_Waiting(picture, future))
        return future

    def warm_up(self) -> None:
        """Let the engine prepare, so that no client waits for it."""
        blank = np.zeros((*self._detector.size, 3), np.uint8)
        for count in {1, self._detector.batch}:
            self._look([blank] * count)

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, is_over = [first], False
            while len(batch) < self._detector.batch and not is_over:
                try:
                    following = self._queue.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_over = True
                else:
                    batch.append(following)
            self._answer([each for each in batch if each.future.set_running_or_notify_cancel()])
            if is_over:
                return

    def _answer(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            found = self._look([each.picture for each in batch])
        except BaseException as error:
            for each in batch:
                each.future.set_exception(error)
            return
        if self._on_batch is not None:
            self._on_batch(len(batch))
        for each, answer in zip(batch, found, strict=True):
            each.future.set_result(answer)

    def _look(self, pictures: list[Picture]) -> list[Detections]:
        named = [Named("picture", picture, picture) for picture in pictures]
        full = self._detector.batch if len(named) > 1 else 1
        return self._detector.find(named, threshold=0.0, at_least=full)
