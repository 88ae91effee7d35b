"""Small videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def write_video(path: str | Path, frames: Iterable[np.ndarray], rate: float = 10) -> None:
    """Write frames of one size as JPEG pictures in AVI."""
    writer = None
    for frame in frames:
        if writer is None:
            code = cv2.VideoWriter.fourcc(*"MJPG")
            writer = cv2.VideoWriter(str(path), code, rate, frame.shape[1::-1])
        writer.write(frame)
    assert writer is not None
    writer.release()


def read_video(path: str | Path) -> list[np.ndarray]:
    """All frames."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return frames
        frames.append(frame)
