"""A trained net on pictures: from pixels to the rows of DetectionOutput.

Spec: ssd-layers.md section 3 (rows of DetectionOutput).

A picture is resized to the net's input without keeping its shape (bilinear, on 8 bits); then the
mean is subtracted and the rest is multiplied by a scale, as a test net's data layer does. Nets
with one channel get the picture in grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import NetError, UsageError
from caffe_ssd.layers.detection_output import ROW_WIDTH
from caffe_ssd.net import Net
from caffe_ssd.net.part import NetPart
from caffe_ssd.net.plan import Value

MEAN_BGR = (104.0, 117.0, 123.0)
MEAN_GREY = (0.0,)

Run = Callable[[Tensor], Tensor]
"""A batch (N, C, H, W) to DetectionOutput's top, (1, 1, D, 7): a `NetPart`, or an engine."""


class PictureDetector:
    """A net in phase TEST that takes pictures of any size, any number at once.

    Args:
        net: has one input (N, 1 or 3, H, W) and a DetectionOutput layer.
        mean: per channel (BGR), or one value for all; None for 104, 117, 123, or 0 in grey.
        scale: factor after the mean.
        size: (height, width) of the input; None for the net's own.
        run: what takes a batch (N, C, H, W) to the rows of DetectionOutput; None for the net.

    Raises:
        NetError: the net has another kind of input or output, or does not take that size.
        UsageError: the mean does not fit the channels.
    """

    def __init__(
        self,
        net: Net,
        *,
        mean: tuple[float, ...] | None = None,
        scale: float = 1.0,
        size: tuple[int, int] | None = None,
        run: Run | None = None,
    ) -> None:
        self.net = net
        self.input = _input_of(net)
        _, self.channels, height, width = net.blob_shapes[net.blob_names.index(self.input)]
        self.size = (height, width) if size is None else size
        self.output = _output_of(net)
        self.part = NetPart(net, fed=_fed_value(net), wanted=net.final_value(self.output))
        self.part.check_size((1, self.channels, *self.size))
        self.run: Run = self.part if run is None else run
        if mean is None:
            mean = MEAN_BGR if self.channels == len(MEAN_BGR) else MEAN_GREY
        if len(mean) not in (1, self.channels):
            raise UsageError(
                f"the mean has {len(mean)} values; the net's input {self.input!r} has "
                f"{self.channels} channel(s), so it takes {' or '.join({'1', str(self.channels)})}"
            )
        self.mean = np.array(mean, np.float32)
        self.scale = np.float32(scale)

    def rows(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """All that the net finds on one or more pictures: DetectionOutput's rows, [D, 7].

        Args:
            pictures: (height, width, 3), BGR, 8 bits, each of its own size; they are one batch.
        """
        return found_rows(self.run(self.batch(pictures, self.size)))

    def batch(self, pictures: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> Tensor:
        """The net's input for pictures, (N, C, height, width), at any size."""
        return torch.from_numpy(np.stack([self._prepare(picture, size) for picture in pictures]))

    def _prepare(self, picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
        """The net's input for one picture: (C, height, width)."""
        pixels = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) if self.channels == 1 else picture
        resized = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
        values = (np.atleast_3d(resized).astype(np.float32) - self.mean) * self.scale
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def found_rows(blob: Tensor) -> Tensor:
    """The rows of a DetectionOutput blob that stand for something found, [D, 7]."""
    rows = blob.reshape(-1, ROW_WIDTH)
    return rows[rows[:, 1] >= 0]


def _fed_value(net: Net) -> Value:
    return next(step for step in net.steps if step.param.type == "Input").tops[0]


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
