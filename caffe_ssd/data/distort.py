"""Photometric distortion: brightness, contrast, saturation, hue, order of the channels.

Spec: ssd-data.md section 4.2.
Quirk: contrast multiplies the pixels; it does not turn around a mean.
Quirk: hue and saturation work on 8-bit HSV. The shifted hue is cut off at 0 and 255 rather than
    taken modulo 180, so a negative hue sticks at red.
Quirk: saturation is applied even if its factor is next to 1.

`DistortPolicy.draw` makes a `Distortion`, which is deterministic. Images are (H, W, C) uint8 BGR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.decode import Image
from caffe_ssd.data.draws import Draws
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import DistortionParameter

Table: TypeAlias = NDArray[np.uint8]

_LEVELS = np.arange(256, dtype=np.float32)
_SAME = np.arange(256, dtype=np.uint8)
_MIDDLE = 128
_LARGE = 1 << 12  # values; with fewer a table is as fast


@dataclass(frozen=True, kw_only=True)
class Brightness:
    """pixel + delta."""

    delta: float

    def __call__(self, image: Image) -> Image:
        table = _affine(1, self.delta)
        shift = int(table[_MIDDLE]) - _MIDDLE
        # Adding a whole number is five times faster, and the same unless a delta of .5 rounds
        # to even levels.
        if image.size >= _LARGE and np.array_equal(_shifted(_SAME, shift), table):
            return _shifted(image, shift).reshape(image.shape)
        return _look_up(image, table)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """pixel * factor."""

    factor: float

    def __call__(self, image: Image) -> Image:
        return _look_up(image, _affine(self.factor, 0))


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """S * factor in 8-bit HSV."""

    factor: float

    def __call__(self, image: Image) -> Image:
        return _in_hsv(image, 1, _affine(self.factor, 0))


@dataclass(frozen=True, kw_only=True)
class Hue:
    """H + delta in 8-bit HSV, where a full turn is 180."""

    delta: float

    def __call__(self, image: Image) -> Image:
        return _in_hsv(image, 0, _affine(1, self.delta))


@dataclass(frozen=True, kw_only=True)
class ChannelOrder:
    """Channel i of the result is channel order[i]."""

    order: tuple[int, ...]

    def __call__(self, image: Image) -> Image:
        _check_colour(image)
        return np.ascontiguousarray(image[:, :, self.order])


Step: TypeAlias = Brightness | Contrast | Saturation | Hue | ChannelOrder


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """Steps applied one after the other."""

    steps: tuple[Step, ...] = ()

    def __call__(self, image: Image) -> Image:
        for step in self.steps:
            image = step(image)
        return image


@dataclass(frozen=True)
class Amount:
    """Whether a step happens, and how much.

    Args:
        prob: the probability of the step.
        low: least amount.
        high: largest amount.
    """

    prob: float
    low: float
    high: float

    def draw(self, draws: Draws) -> float | None:
        """The amount, or None: not this time."""
        if draws.uniform(0, 1) >= self.prob:
            return None
        return float(draws.uniform(self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class DistortPolicy:
    """Draws distortions.

    Args:
        brightness: added to the pixels.
        contrast: factor of the pixels.
        saturation: factor of S.
        hue: added to H.
        order_prob: probability of a random order of the channels.
    """

    brightness: Amount
    contrast: Amount
    saturation: Amount
    hue: Amount
    order_prob: float

    @staticmethod
    def from_param(param: DistortionParameter) -> DistortPolicy:
        """Read the message.

        Raises:
            LayerParamError: a delta is negative, or a range is empty or negative.
        """
        for name in ("brightness", "hue"):
            delta = getattr(param, f"{name}_delta")
            if delta < 0:
                raise LayerParamError(f"distort_param.{name}_delta must be >= 0, got {delta:g}")
        for name in ("contrast", "saturation"):
            lower, upper = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
            if not 0 <= lower <= upper:
                raise LayerParamError(
                    f"distort_param needs 0 <= {name}_lower <= {name}_upper, "
                    f"got {lower:g} and {upper:g}"
                )
        p = param
        return DistortPolicy(
            brightness=Amount(p.brightness_prob, -p.brightness_delta, p.brightness_delta),
            contrast=Amount(p.contrast_prob, p.contrast_lower, p.contrast_upper),
            saturation=Amount(p.saturation_prob, p.saturation_lower, p.saturation_upper),
            hue=Amount(p.hue_prob, -p.hue_delta, p.hue_delta),
            order_prob=p.random_order_prob,
        )

    def draw(self, draws: Draws) -> Distortion:
        """One distortion; contrast comes second or next to last, equally likely."""
        contrast_early = draws.uniform(0, 1) > 0.5
        brightness = self._brightness(draws)
        steps: tuple[Step | None, ...]
        if contrast_early:
            contrast = self._contrast(draws)
            steps = (brightness, contrast, self._saturation(draws), self._hue(draws))
        else:
            saturation, hue = self._saturation(draws), self._hue(draws)
            steps = (brightness, saturation, hue, self._contrast(draws))
        steps += (self._order(draws),)
        return Distortion(steps=tuple(step for step in steps if step is not None))

    def _brightness(self, draws: Draws) -> Step | None:
        delta = self.brightness.draw(draws)
        return Brightness(delta=delta) if delta else None

    def _contrast(self, draws: Draws) -> Step | None:
        factor = self.contrast.draw(draws)
        if factor is None or abs(factor - 1) <= 1e-3:
            return None
        return Contrast(factor=factor)

    def _saturation(self, draws: Draws) -> Step | None:
        factor = self.saturation.draw(draws)
        return None if factor is None else Saturation(factor=factor)

    def _hue(self, draws: Draws) -> Step | None:
        delta = self.hue.draw(draws)
        return Hue(delta=delta) if delta else None

    def _order(self, draws: Draws) -> Step | None:
        if draws.uniform(0, 1) >= self.order_prob:
            return None
        return ChannelOrder(order=draws.permutation(3))


def _affine(factor: float, shift: float) -> Table:
    """Table of v * factor + shift, rounded half to even, cut off at 0 and 255."""
    values = _LEVELS * np.float32(factor) + np.float32(shift)
    table: Table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return table


def _look_up(image: Image, table: Table) -> Image:
    return cv2.LUT(image, table).reshape(image.shape)


def _shifted(levels: Image, shift: int) -> Image:
    """Each value plus `shift`, cut off at 0 and 255."""
    change: Any = cv2.add if shift >= 0 else cv2.subtract
    shifted: Image = change(levels, (abs(shift),) * 4)
    return shifted


def _in_hsv(image: Image, channel: int, table: Table) -> Image:
    _check_colour(image)
    planes = list(cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV)))
    planes[channel] = cv2.LUT(planes[channel], table)
    return cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2BGR)


def _check_colour(image: Image) -> None:
    if image.shape[2] != 3:
        raise DataError(
            "is a gray image, which has no saturation, hue or order of channels to distort: "
            "set transform_param.force_color"
        )
