"""Image filters for ablations: blur, equalisation, JPEG artefacts, pepper and salt, and the like.

Spec: ssd-data.md section 4.7.
Quirk: `noise_param.prob` is ignored: the filters that are named always run, in this fixed order.

Images are (H, W, C) uint8, BGR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from caffe_ssd.data.decode import Image, jpeg_roundtrip, with_channel_axis
from caffe_ssd.data.draws import Draws
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import NoiseParameter


@dataclass(frozen=True, kw_only=True)
class SaltPepper:
    """Random pixels get one colour.

    Args:
        fraction: of all pixels; a pixel may be hit twice.
        value: the colour, one value or one per channel.
    """

    fraction: float
    value: tuple[float, ...]

    def __call__(self, image: Image, draws: Draws) -> Image:
        height, width, channels = image.shape
        if len(self.value) not in (1, channels):
            raise DataError(
                f"has {channels} channels, but saltpepper_param.value is given "
                f"{len(self.value)} times"
            )
        count = int(np.float32(self.fraction) * height * width)
        columns, rows = draws.integers(width, count), draws.integers(height, count)
        noisy = image.copy()
        noisy[rows, columns] = np.clip(np.rint(self.value), 0, 255).astype(np.uint8)
        return noisy


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A `noise_param`.

    Args:
        filters: names of the filters to run, in order.
        jpeg: quality of the JPEG filter.
        saltpepper: None leaves it out.
    """

    filters: tuple[str, ...]
    jpeg: int = -1
    saltpepper: SaltPepper | None = None

    @staticmethod
    def from_param(param: NoiseParameter) -> Noise:
        """Read the message.

        Raises:
            LayerParamError: saltpepper without a value.
        """
        filters = tuple(
            name for name in _ORDER if (param.jpeg > 0 if name == "jpeg" else getattr(param, name))
        )
        saltpepper = None
        if param.saltpepper:
            if not param.saltpepper_param.value:
                raise LayerParamError("noise_param.saltpepper needs saltpepper_param.value")
            saltpepper = SaltPepper(
                fraction=param.saltpepper_param.fraction, value=tuple(param.saltpepper_param.value)
            )
        return Noise(filters=filters, jpeg=int(param.jpeg), saltpepper=saltpepper)

    def __call__(self, image: Image, draws: Draws) -> Image:
        """The image after all filters.

        Raises:
            DataError: the image is not 8-bit, or gray where colour is needed.
        """
        if image.dtype != np.uint8:
            raise DataError("holds float values, to which noise_param cannot be applied")
        for name in self.filters:
            if name == "jpeg":
                image = jpeg_roundtrip(image, self.jpeg)
            elif name == "saltpepper":
                assert self.saltpepper is not None
                image = self.saltpepper(image, draws)
            else:
                image = with_channel_axis(_FILTERS[name](image))
        return image


def _decolorize(image: Image) -> Image:
    if image.shape[2] == 1:
        return image
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)


def _gauss_blur(image: Image) -> Image:
    return cv2.GaussianBlur(image, (7, 7), 1.5)


def _on_brightness(image: Image, change: Callable[[Image], Image]) -> Image:
    """Change the luma of a colour image, or a gray image itself."""
    if image.shape[2] == 1:
        return change(image[:, :, 0])
    luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb))
    return cv2.cvtColor(cv2.merge([change(luma), red, blue]), cv2.COLOR_YCrCb2BGR)


def _hist_eq(image: Image) -> Image:
    return _on_brightness(image, cv2.equalizeHist)


def _clahe(image: Image) -> Image:
    return _on_brightness(image, cv2.createCLAHE(clipLimit=4).apply)


def _erode(image: Image) -> Image:
    return cv2.erode(image, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))


def _posterize(image: Image) -> Image:
    return image // 64 * 64 + 32


def _inverse(image: Image) -> Image:
    return 255 - image


def _convert_to_hsv(image: Image) -> Image:
    return cv2.cvtColor(_colour(image, "convert_to_hsv"), cv2.COLOR_BGR2HSV)


def _convert_to_lab(image: Image) -> Image:
    return cv2.cvtColor(_colour(image, "convert_to_lab"), cv2.COLOR_BGR2LAB)


def _colour(image: Image, name: str) -> Image:
    if image.shape[2] != 3:
        raise DataError(f"is a gray image, which noise_param.{name} cannot convert")
    return image


_FILTERS: dict[str, Callable[[Image], Image]] = {
    "decolorize": _decolorize,
    "gauss_blur": _gauss_blur,
    "hist_eq": _hist_eq,
    "clahe": _clahe,
    "erode": _erode,
    "posterize": _posterize,
    "inverse": _inverse,
    "convert_to_hsv": _convert_to_hsv,
    "convert_to_lab": _convert_to_lab,
}
_ORDER = (
    "decolorize",
    "gauss_blur",
    "hist_eq",
    "clahe",
    "jpeg",
    "erode",
    "posterize",
    "inverse",
    "saltpepper",
    "convert_to_hsv",
    "convert_to_lab",
)
