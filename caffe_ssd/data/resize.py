"""Resizing an image and its boxes to the size of the net.

Spec: ssd-data.md section 4.5.
Quirk: `resize_param.prob` is ignored: an image is always resized.
Quirk: after FIT_LARGE_SIZE_AND_PAD boxes are padded by the exact margin, the image by whole pixels.
Quirk: FIT_SMALL_SIZE with height_scale and width_scale counts boxes in units of these.

Images are (H, W, C), boxes [n, 4] float32 normalised. Sizes are computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from caffe_ssd.data.decode import Image, with_channel_axis
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.samples import Boxes
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import ResizeParameter

_INTERPOLATIONS = {
    ResizeParameter.LINEAR: cv2.INTER_LINEAR,
    ResizeParameter.AREA: cv2.INTER_AREA,
    ResizeParameter.NEAREST: cv2.INTER_NEAREST,
    ResizeParameter.CUBIC: cv2.INTER_CUBIC,
    ResizeParameter.LANCZOS4: cv2.INTER_LANCZOS4,
}
_BORDERS = {
    ResizeParameter.CONSTANT: cv2.BORDER_CONSTANT,
    ResizeParameter.MIRRORED: cv2.BORDER_REFLECT_101,
    ResizeParameter.REPEAT_NEAREST: cv2.BORDER_REPLICATE,
}


@dataclass(frozen=True, kw_only=True)
class FittedSize:
    """A size in pixels before it is cut off to whole ones."""

    height: np.float32
    width: np.float32

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height), in OpenCV's order; at least one pixel."""
        return max(1, int(self.width)), max(1, int(self.height))


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A `resize_param`.

    Args:
        height: of the result, in pixels; what it means depends on the mode.
        width: of the result.
        mode: WARP stretches to the size, FIT_SMALL_SIZE covers it, FIT_LARGE_SIZE_AND_PAD fits
            inside and pads.
        interpolations: OpenCV's flags; one of them is drawn.
        border: OpenCV's flag for the padding.
        pad_value: colour of constant padding, one value or one per channel.
        height_scale: unit of box heights under FIT_SMALL_SIZE; 0 keeps them normalised.
        width_scale: the same for widths; both or none.
    """

    height: int
    width: int
    mode: int = ResizeParameter.WARP
    interpolations: tuple[int, ...] = (cv2.INTER_LINEAR,)
    border: int = cv2.BORDER_CONSTANT
    pad_value: tuple[float, ...] = (0.0,)
    height_scale: int = 0
    width_scale: int = 0

    @staticmethod
    def from_param(param: ResizeParameter) -> Resize:
        """Read the message.

        Raises:
            LayerParamError: height or width is missing, or pad_value has a strange length.
        """
        if param.height == 0 or param.width == 0:
            raise LayerParamError(
                f"resize_param needs height > 0 and width > 0, got {param.height} and {param.width}"
            )
        pad_value = tuple(param.pad_value) or (0.0,)
        if len(pad_value) not in (1, 3):
            raise LayerParamError(
                f"resize_param.pad_value must be given once or per channel, got {len(pad_value)}"
            )
        interpolations = tuple(_INTERPOLATIONS[mode] for mode in param.interp_mode)
        return Resize(
            height=param.height,
            width=param.width,
            mode=param.resize_mode,
            interpolations=interpolations or (cv2.INTER_LINEAR,),
            border=_BORDERS[param.pad_mode],
            pad_value=pad_value,
            height_scale=param.height_scale,
            width_scale=param.width_scale,
        )

    def draw(self, draws: Draws) -> int:
        """The interpolation for one image."""
        if len(self.interpolations) == 1:
            return self.interpolations[0]
        return self.interpolations[draws.below(len(self.interpolations))]

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what becomes of an image of this size."""
        if self.mode == ResizeParameter.FIT_SMALL_SIZE:
            width, height = self.fitted(height, width).size_px
            return height, width
        return self.height, self.width

    def fitted(self, height: int, width: int) -> FittedSize:
        """The size an image is resized to, before it is padded.

        Args:
            height: of the image, in pixels.
            width: of the image.
        """
        target_h, target_w = np.float32(self.height), np.float32(self.width)
        aspect, target = np.float32(width) / np.float32(height), target_w / target_h
        if self.mode == ResizeParameter.WARP:
            return FittedSize(height=target_h, width=target_w)
        covers = self.mode == ResizeParameter.FIT_SMALL_SIZE
        if aspect < target if covers else aspect > target:
            return FittedSize(height=target_w / aspect, width=target_w)
        return FittedSize(height=target_h, width=aspect * target_h)

    def resize(self, image: Image, interpolation: int) -> Image:
        """The resized image, with one of `interpolations`."""
        size = self.fitted(*image.shape[:2]).size_px
        resized = cv2.resize(image, size, interpolation=interpolation)
        if self.mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
            resized = self._pad(resized, channels=image.shape[2])
        return with_channel_axis(resized)

    def resize_boxes(self, boxes: Boxes, *, height: int, width: int) -> Boxes:
        """What becomes of the boxes of an image of this size in pixels."""
        moved = boxes.copy()
        margins = (np.float32(0), np.float32(0))
        if self.mode == ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
            fitted = self.fitted(height, width)
            margins = (
                (np.float32(self.width) - fitted.width) / 2,
                (np.float32(self.height) - fitted.height) / 2,
            )
        for axis, (margin, side) in enumerate(zip(margins, (self.width, self.height), strict=True)):
            low, high = boxes[:, axis], boxes[:, axis + 2]
            if margin == 0:
                moved[:, axis] = np.maximum(low, np.float32(0))
                moved[:, axis + 2] = np.minimum(high, np.float32(1))
                continue
            inner = np.float32(side) - 2 * margin
            moved[:, axis] = (margin + np.maximum(low * inner, np.float32(0))) / side
            moved[:, axis + 2] = (margin + np.minimum(high * inner, np.float32(side))) / side
        return moved

    def scale_boxes(self, boxes: Boxes, crop: Boxes, *, height: int, width: int) -> Boxes:
        """Boxes of a crop in units of width_scale and height_scale, where these are set.

        Args:
            boxes: [n, 4] in the crop's coordinates.
            crop: [4] in the resized image's coordinates.
            height: of the image before it was resized, in pixels.
            width: of that image.

        Raises:
            DataError: the crop is smaller than the units.
        """
        if not (
            self.mode == ResizeParameter.FIT_SMALL_SIZE
            and self.height_scale > 0
            and self.width_scale > 0
        ):
            return boxes
        fitted = self.fitted(height, width)
        crop_w, crop_h = fitted.width * (crop[2] - crop[0]), fitted.height * (crop[3] - crop[1])
        if crop_w < self.width_scale or crop_h < self.height_scale:
            raise DataError(
                f"is {crop_h:g} x {crop_w:g} pixels high and wide in the net, less than "
                f"resize_param's height_scale {self.height_scale} x width_scale {self.width_scale}"
            )
        x, y = crop_w / np.float32(self.width_scale), crop_h / np.float32(self.height_scale)
        return boxes * np.array([x, y, x, y], np.float32)

    def _pad(self, image: Image, *, channels: int) -> Image:
        height, width = image.shape[:2]
        top, left = (self.height - height) // 2, (self.width - width) // 2
        value = self.pad_value
        if len(value) == 1:
            value = value * channels
        elif len(value) != channels:
            raise DataError(
                f"has {channels} channels, but resize_param.pad_value is given {len(value)} times"
            )
        below, right = self.height - height - top, self.width - width - left
        return cv2.copyMakeBorder(image, top, below, left, right, self.border, value=value)
