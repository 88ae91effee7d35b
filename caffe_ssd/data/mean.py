"""The mean that is subtracted from images.

Spec: ssd-data.md sections 4 and 4.8.

A mean file belongs to the image before the crop: each pixel loses the mean of the place it comes
from, also when the image is mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.pictures import PixelWindow
from caffe_ssd.errors import CaffeError, DataError, LayerParamError
from caffe_ssd.proto.binary import read_binary
from caffe_ssd.proto.blobs import blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto, TransformationParameter


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean per channel or per pixel.

    Args:
        values: [1, 1, 1], [C, 1, 1] or [C, H, W].
        file: where it was read; empty for a `mean_value`.
    """

    values: NDArray[np.float32]
    file: str = ""

    @staticmethod
    def from_param(param: TransformationParameter) -> Mean:
        """Read `mean_file` or `mean_value`; neither of them is a mean of 0.

        Raises:
            LayerParamError: both are given, or the file cannot be read.
        """
        if not param.HasField("mean_file"):
            values = np.array(param.mean_value or [0.0], np.float32)
            return Mean(values=values[:, None, None])
        if param.mean_value:
            raise LayerParamError("transform_param takes mean_file or mean_value, not both")
        try:
            values = blob_to_array(read_binary(param.mean_file, BlobProto()))
        except CaffeError as error:
            raise LayerParamError(f"transform_param.mean_file: {error}") from None
        if values.ndim not in (3, 4) or (values.ndim == 4 and len(values) != 1):
            raise LayerParamError(
                f"transform_param.mean_file {param.mean_file!r} has shape {list(values.shape)}, "
                "but one image [1, C, H, W] is needed"
            )
        return Mean(values=values.reshape(values.shape[-3:]), file=param.mean_file)

    def per_channel(self, channels: int) -> NDArray[np.float32]:
        """[C] means of the channels.

        Raises:
            DataError: see `inside`.
        """
        self._check_channels(channels)
        means: NDArray[np.float32] = self.values.mean(axis=(1, 2), dtype=np.float64)
        return np.broadcast_to(means.astype(np.float32), channels)

    def inside(self, window: PixelWindow, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The mean of a window of an image, to be broadcast to it.

        Args:
            window: part of the image.
            shape: (H, W, C) of the whole image.

        Returns:
            [C, 1, 1] or [C, height, width].

        Raises:
            DataError: the mean has another number of channels, or another size than the image.
        """
        height, width, channels = shape
        self._check_channels(channels)
        if not self.file:
            return np.broadcast_to(self.values, (channels, 1, 1))
        if self.values.shape[1:] != (height, width):
            raise DataError(
                f"comes out {height} x {width} before the crop, but the mean of {self.file!r} is "
                f"{' x '.join(map(str, self.values.shape[1:]))}"
            )
        return self.values[:, window.y0 : window.y1, window.x0 : window.x1]

    def _check_channels(self, channels: int) -> None:
        if len(self.values) in (1, channels):
            return
        source = self.file or "transform_param.mean_value"
        raise DataError(f"has {channels} channels, but {source} has {len(self.values)}")
