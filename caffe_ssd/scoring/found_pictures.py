"""What was found, drawn: pictures with boxes and annotated videos, made by threads of their own.

A picture appears under its name when it is whole, a video when its last frame is in it.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from caffe_ssd.errors import FileError
from caffe_ssd.files import atomic_write
from caffe_ssd.scoring.detections import Detections
from caffe_ssd.scoring.reading import Named
from caffe_ssd.scoring.sources import Item, Picture

_THREADS = 2
_UNKNOWN_RATE = 25.0

# What OpenCV's builds can write, patents aside: MPEG-4 part 2, and JPEG pictures in AVI.
VIDEO_CODES = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class DrawnPictures:
    """Draws and writes pictures while others are looked at; a context manager.

    Leaving it waits for all. After an error, a video that is not complete is removed.

    Args:
        target: the file for an item: of a picture, or of a video or camera.
        ahead: how many pictures may wait.

    Raises:
        FileError: a file cannot be written; at the latest when it is left.
    """

    def __init__(self, target: Callable[[Item], Path], *, ahead: int) -> None:
        self._target = target
        self._ahead = ahead
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(_THREADS)
        self._line = ThreadPoolExecutor(1)  # frames of a video follow each other
        self._video: tuple[Item, _Video] | None = None

    def __enter__(self) -> DrawnPictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._end_video()
                while self._waiting:
                    self._waiting.popleft().result()
        finally:
            for future in self._waiting:
                future.cancel()
            self._pool.shutdown()
            self._line.shutdown()
            if self._video is not None:
                self._video[1].drop()

    def add(self, named: Named, found: Detections) -> None:
        """Draw one more; waits where too many wait already."""
        if named.frame is None:
            self._end_video()
            target = self._target(named.item)
            self._waiting.append(self._pool.submit(_write, target, named.picture, found))
        else:
            video = self._video_of(named)
            self._waiting.append(self._line.submit(video.add, named.picture, found))
        while len(self._waiting) > self._ahead:
            self._waiting.popleft().result()

    def _video_of(self, named: Named) -> _Video:
        if self._video is not None and self._video[0] is not named.item:
            self._end_video()
        if self._video is None:
            self._video = (named.item, _Video(self._target(named.item), named.rate))
        return self._video[1]

    def _end_video(self) -> None:
        if self._video is not None:
            self._line.submit(self._video[1].finish).result()
            self._video = None


class _Video:
    """A video that is being written, used by one thread at a time."""

    def __init__(self, target: Path, rate: float) -> None:
        self._target = target
        # OpenCV chooses the container by the ending, so the temporary name keeps it.
        self._partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
        self._rate = rate if math.isfinite(rate) and rate > 0 else _UNKNOWN_RATE
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, picture: Picture, found: Detections) -> None:
        if self._writer is None:
            height, width = picture.shape[:2]
            self._size = (width, height)
            self._writer = self._open()
        drawn = found.draw(picture)
        if drawn.shape[1::-1] != self._size:  # OpenCV would leave the frame out
            drawn = cv2.resize(drawn, self._size).astype(np.uint8, copy=False)
        self._writer.write(drawn)

    def finish(self) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
            with open(self._partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self._partial, self._target)
        except OSError as error:
            raise FileError(f"Could not write file {self._target}: {error.strerror}") from error

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.release()
        with suppress(OSError):
            self._partial.unlink()

    def _open(self) -> cv2.VideoWriter:
        make_folder(self._target.parent)
        code = cv2.VideoWriter.fourcc(*VIDEO_CODES[self._target.suffix.lower()])
        writer = cv2.VideoWriter(os.fspath(self._partial), code, self._rate, self._size)
        if not writer.isOpened():
            raise FileError(f"Could not write file {self._target}: OpenCV cannot make the video")
        return writer


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        FileError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"Could not make folder {folder}: {error.strerror}") from error


def _write(path: Path, picture: Picture, found: Detections) -> None:
    """Draw and write a picture, in the format its name says."""
    make_folder(path.parent)
    try:
        _, data = cv2.imencode(path.suffix, found.draw(picture))
    except cv2.error as error:
        raise FileError(f"Could not write file {path}: OpenCV cannot encode it") from error
    atomic_write(path, data.tobytes())
