"""Frames of a video file or a camera, as a source of records.

Spec: ssd-layers.md section 9.
Quirk: `skip_frames` frames are dropped before every frame that is used, the first one included.
Quirk: the number of frames is what the file says.

A record is a raw Datum of class 0.
"""

from __future__ import annotations

import os
import sys

import cv2

from caffe_ssd.data.decode import check_size, raw_datum
from caffe_ssd.errors import DataError


def open_video(path: str) -> cv2.VideoCapture:
    """A video file, at its first frame.

    Raises:
        DataError: it is none, or (TooLargeError) states frames of a size that is not allowed.
    """
    if not os.path.isfile(path):
        raise DataError(f"video {path!r} does not exist (from {os.getcwd()})")
    capture = cv2.VideoCapture(path)
    if not capture.isOpened():
        raise DataError(f"video {path!r} cannot be opened by OpenCV")
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    if height and width:  # not every container says so
        check_size((height, width), f"video {path!r} states")
    return capture


class VideoFrames:
    """The frames that are used of a video file.

    They are decoded one after the other. Going back, or far ahead, decodes all frames before: the
    position in many containers is only good to the next key frame.

    Args:
        path: the file.
        skip_frames: frames dropped before each one.

    Raises:
        DataError: it is no video, or too short.
    """

    def __init__(self, path: str, *, skip_frames: int = 0) -> None:
        self.path = path
        self.skip_frames = skip_frames
        self._capture: cv2.VideoCapture | None = None
        self._position = 0
        self.num_frames = int(self._open().get(cv2.CAP_PROP_FRAME_COUNT))
        if len(self) < 1:
            raise DataError(
                f"video {path!r} has {max(self.num_frames, 0)} frames, but skip_frames "
                f"{skip_frames} needs at least {skip_frames + 1}"
            )

    def __len__(self) -> int:
        return max(self.num_frames, 0) // (self.skip_frames + 1)

    def first(self) -> bytes:
        """Record 0."""
        return self[0]

    def __getitem__(self, index: int) -> bytes:
        """The frame, serialized.

        Raises:
            DataError: it cannot be decoded.
        """
        frame = self._frame(index)
        capture = self._capture
        if capture is None or frame < self._position:
            capture = self._open()
        while self._position < frame and capture.grab():
            self._position += 1
        ok, image = capture.read()
        if not ok:
            self._capture = None
            raise DataError(
                f"{self.where(index)} cannot be read, though there should be {self.num_frames}"
            )
        self._position += 1
        return raw_datum(image, label=0).SerializeToString()

    def where(self, index: int) -> str:
        """The file and the frame, for error messages; frames count from 0."""
        return f"{self.path}: frame {self._frame(index)}"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_capture": None}

    def _frame(self, index: int) -> int:
        return (index + 1) * (self.skip_frames + 1) - 1

    def _open(self) -> cv2.VideoCapture:
        self._capture, self._position = open_video(self.path), 0
        return self._capture


class CameraFrames:
    """What a camera shows when it is asked; there is no end, and nothing comes twice.

    Args:
        device_id: number of the camera.
        skip_frames: frames dropped before each one.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, device_id: int, *, skip_frames: int = 0) -> None:
        self.device_id = device_id
        self.skip_frames = skip_frames
        self._capture = cv2.VideoCapture(device_id)
        if not self._capture.isOpened():
            raise DataError(
                f"cannot open webcam {device_id}, which video_data_param.device_id names; "
                "video_type: VIDEO and video_file read a file"
            )

    def __len__(self) -> int:
        return sys.maxsize

    def first(self) -> bytes:
        """The next frame."""
        return self[0]

    def __getitem__(self, index: int) -> bytes:
        """The next frame, whatever the index.

        Raises:
            DataError: the camera gives none.
        """
        for _ in range(self.skip_frames):
            self._capture.grab()
        ok, image = self._capture.read()
        if not ok:
            raise DataError(f"{self.where(index)} gives no picture")
        return raw_datum(image, label=0).SerializeToString()

    def where(self, index: int) -> str:
        """The camera, for error messages."""
        return f"webcam {self.device_id}"
