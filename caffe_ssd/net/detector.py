"""A trained detector on pictures: from pixels to boxes with labels and scores.

Spec: ssd-layers.md section 3 (rows of DetectionOutput).

A picture is resized to the net's input without keeping its shape (bilinear, on 8 bits); then the
mean is subtracted and the rest is multiplied by a scale, as a test net's data layer does. Nets
with one channel get the picture in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.errors import NetError, UsageError
from caffe_ssd.layers.detection_output import ROW_WIDTH
from caffe_ssd.net.net import Net
from caffe_ssd.proto.caffe_pb2 import NetParameter

MEAN_BGR = (104.0, 117.0, 123.0)
MEAN_GREY = (0.0,)


@dataclass(frozen=True, kw_only=True)
class DetectedObject:
    """One row of DetectionOutput.

    Args:
        label: the class.
        score: in [0, 1].
        corners: xmin, ymin, xmax, ymax; normalised, and may leave [0, 1] a little.
    """

    label: int
    score: float
    corners: tuple[float, float, float, float]

    def box_px(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(xmin, ymin, xmax, ymax) in pixels, clipped to a picture of that size."""
        xmin, ymin, xmax, ymax = (min(max(value, 0.0), 1.0) for value in self.corners)
        return round(xmin * width), round(ymin * height), round(xmax * width), round(ymax * height)


class PictureDetector:
    """A net in phase TEST that takes pictures of any size, any number at once.

    Args:
        net: has one input (N, 1 or 3, H, W) and a DetectionOutput layer.
        mean: per channel (BGR), or one value for all; None for 104, 117, 123, or 0 in grey.
        scale: factor after the mean.
        size: (height, width) of the input; None for the net's own.

    Raises:
        NetError: the net has another kind of input or output.
        UsageError: the mean does not fit the channels.
    """

    def __init__(
        self,
        net: Net,
        *,
        mean: Sequence[float] | None = None,
        scale: float = 1.0,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.net = net
        self.input = _input_of(net)
        _, self.channels, height, width = net.blob_shapes[net.blob_names.index(self.input)]
        self.height, self.width = (height, width) if size is None else size
        self.output = _output_of(net)
        if mean is None:
            mean = MEAN_BGR if self.channels == len(MEAN_BGR) else MEAN_GREY
        if len(mean) not in (1, self.channels):
            raise UsageError(
                f"the mean has {len(mean)} values; the net's input {self.input!r} has "
                f"{self.channels} channel(s), so it takes {' or '.join({'1', str(self.channels)})}"
            )
        self.mean = np.array(mean, np.float32)
        self.scale = np.float32(scale)

    def detect(
        self, pictures: Sequence[NDArray[np.uint8]], *, threshold: float = 0.5
    ) -> list[list[DetectedObject]]:
        """What is found on each picture, best first.

        Args:
            pictures: (height, width, 3), BGR, 8 bits, each of its own size; they are one batch.
            threshold: lowest score.
        """
        if not pictures:
            return []
        batch = torch.from_numpy(np.stack([self._prepare(picture) for picture in pictures]))
        with torch.inference_mode():
            blobs = self.net({self.input: batch.to(self.net.device)}).blobs
        found: list[list[DetectedObject]] = [[] for _ in pictures]
        for image, label, score, *corners in blobs[self.output].reshape(-1, ROW_WIDTH).tolist():
            if label >= 0 and score >= threshold:  # label -1 stands for "nothing found"
                xmin, ymin, xmax, ymax = corners
                box = (xmin, ymin, xmax, ymax)
                found[int(image)].append(DetectedObject(label=int(label), score=score, corners=box))
        return [sorted(objects, key=lambda each: -each.score) for objects in found]

    def _prepare(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The net's input for one picture: (C, H, W)."""
        pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if self.channels == 1 else picture
        resized = cv2.resize(pixels, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        values = (np.atleast_3d(resized).astype(np.float32) - self.mean) * self.scale
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def without_result_files(param: NetParameter) -> NetParameter:
    """A copy of a net that saves no detections.

    A generated deploy net names the folder of its results and the files that describe the test
    set; a net for pictures needs none of them.
    """
    plain = NetParameter()
    plain.CopyFrom(param)
    for layer in plain.layer:
        if layer.HasField("detection_output_param"):
            layer.detection_output_param.ClearField("save_output_param")
    return plain


def _input_of(net: Net) -> str:
    """The name of the blob that takes pictures."""
    if len(net.inputs) != 1:
        there = f"there are: {', '.join(net.inputs)}" if net.inputs else "there is none"
        raise NetError(
            f"a net that takes pictures has one Input layer, here {there}; give the deploy net"
        )
    name = net.inputs[0]
    shape = net.blob_shapes[net.blob_names.index(name)]
    if len(shape) != 4 or shape[1] not in (1, 3) or min(shape) < 1:
        raise NetError(
            f"input {name!r} must have the shape (N, 1 or 3, height, width), it has {list(shape)}"
        )
    return name


def _output_of(net: Net) -> str:
    """The name of the blob with the detections."""
    tops = [step.param.top[0] for step in net.steps if step.param.type == "DetectionOutput"]
    names = [name for name in tops if name in net.outputs]
    if len(names) != 1:
        raise NetError(
            "a detector has one DetectionOutput layer whose top nobody reads, this net has "
            f"{len(names)}; its outputs are: {', '.join(net.outputs)}"
        )
    return names[0]
