"""Pictures of items, decoded ahead of their turn: files by several threads, frames in their order.

Pictures are (height, width, 3), BGR, 8 bits, as OpenCV has them.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import cv2
import numpy as np

from caffe_ssd.data.decode import read_picture
from caffe_ssd.data.video import open_video
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.scoring.sources import Camera, Item, Picture, PictureFile, VideoFile

logger = logging.getLogger(__name__)

_THREADS = 4


class Named(NamedTuple):
    """A picture and where it comes from.

    Args:
        name: the file, `camera N`, or `array N` counted from 0.
        picture: its pixels.
        item: what it belongs to.
        frame: number of the frame of a video or camera, from 0; None for pictures.
        rate: frames per second; 0 if unknown.
    """

    name: str
    picture: Picture
    item: Item
    frame: int | None = None
    rate: float = 0.0


OnFault = Callable[[CaffeError], None]
_Load = Callable[[], Named | None]


def pictures_of(
    items: Iterable[Item], *, ahead: int, on_fault: OnFault | None = None
) -> Iterator[Named]:
    """Read pictures one after the other.

    Args:
        items: also without end; taken only `ahead` of what was asked for.
        ahead: how many pictures are decoded before they are asked for.
        on_fault: told of pictures that cannot be read, which are then left out; None raises.

    Raises:
        FileError: a file cannot be opened.
        DataError: something is no picture or video; says which.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        # Frames must be decoded in their order, so one thread has all videos.
        line = stack.enter_context(ThreadPoolExecutor(1))
        loads = _loads(items, pool, line)
        futures: deque[Future[Named | None]] = deque()
        stack.callback(_cancel, futures)
        is_over = False
        wrong: CaffeError | None = None  # with a source, told of when it is its turn
        while True:
            while not is_over and len(futures) <= ahead:
                try:
                    executor, load = next(loads)
                    futures.append(executor.submit(load))
                except StopIteration:
                    is_over = True
                except CaffeError as error:
                    is_over, wrong = True, error
            if not futures and wrong is not None:
                raise wrong
            if not futures:
                return
            try:
                named = futures.popleft().result()
            except CaffeError as error:
                if on_fault is None:
                    raise
                on_fault(error)
                continue
            if named is not None:
                yield named


def _cancel(futures: Iterable[Future[Named | None]]) -> None:
    for future in futures:
        future.cancel()


def _loads(
    items: Iterable[Item], pool: Executor, line: Executor
) -> Iterator[tuple[Executor, _Load]]:
    """What is to be done, and by whom."""
    for index, item in enumerate(items):
        if isinstance(item, VideoFile | Camera):
            frames = _Frames(item)
            while not frames.is_over:
                yield line, frames.next
        else:
            yield pool, _Still(item, index)


class _Still:
    """Loads a picture."""

    def __init__(self, item: PictureFile | np.ndarray, index: int) -> None:
        self._item = item
        self._index = index

    def __call__(self) -> Named:
        item = self._item
        if isinstance(item, PictureFile):
            pixels = read_picture(item.path).astype(np.uint8, copy=False)
            return Named(os.fspath(item.path), pixels, item)
        name = f"array {self._index}"
        if item.dtype != np.uint8 or item.ndim != 3 or item.shape[2] != 3 or not item.size:
            shape = " x ".join(map(str, item.shape))
            raise DataError(
                f"{name} is no picture: it must be height x width x 3, BGR, uint8; it is {shape}, "
                f"{item.dtype}"
            )
        return Named(name, item, item)


class _Frames:
    """Loads one frame after the other; used by one thread at a time.

    Attributes:
        is_over: whether there is no other frame. It is known only after the last one was asked for,
            and a few more may have been asked for by then.
    """

    def __init__(self, item: VideoFile | Camera) -> None:
        self.is_over = False
        self._item = item
        self._count = 0
        self._capture: cv2.VideoCapture | None = None

    def next(self) -> Named | None:
        """The next frame, or None if there is none.

        Raises:
            DataError: the video or camera cannot be opened, or gives no frame at all.
        """
        if self.is_over:
            return None
        try:
            if self._capture is None:
                self._capture = self._open()
            is_read, pixels = self._capture.read()
            if not is_read:
                self._end(self._capture)
                return None
        except CaffeError:
            self.is_over = True
            raise
        self._count += 1
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        picture = pixels.astype(np.uint8, copy=False)
        return Named(self._name, picture, self._item, self._count - 1, rate)

    @property
    def _name(self) -> str:
        item = self._item
        return f"camera {item.number}" if isinstance(item, Camera) else os.fspath(item.path)

    def _open(self) -> cv2.VideoCapture:
        if isinstance(self._item, VideoFile):
            return open_video(os.fspath(self._item.path))
        capture = cv2.VideoCapture(self._item.number)
        if not capture.isOpened():
            raise DataError(f"{self._name} cannot be opened by OpenCV; is there one?")
        return capture

    def _end(self, capture: cv2.VideoCapture) -> None:
        self.is_over = True
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if not self._count:
            raise DataError(f"{self._name}: no frame can be read")
        if isinstance(self._item, VideoFile) and self._count < stated:
            logger.warning(
                "%s: %d frames could be read of the %d that it states",
                self._name,
                self._count,
                stated,
            )
