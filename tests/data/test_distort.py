"""Distortion against the definition, one pixel at a time, and its policy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from caffe_ssd.data.distort import (
    Brightness,
    ChannelOrder,
    Contrast,
    Distortion,
    DistortPolicy,
    Hue,
    Saturation,
)
from caffe_ssd.data.draws import Draws
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import DistortionParameter
from tests.data.databases import picture

STOCK = DistortionParameter(
    brightness_prob=0.5,
    brightness_delta=32,
    contrast_prob=0.5,
    contrast_lower=0.5,
    contrast_upper=1.5,
    hue_prob=0.5,
    hue_delta=18,
    saturation_prob=0.5,
    saturation_lower=0.5,
    saturation_upper=1.5,
)


def saturated(values):
    return np.clip(np.rint(np.float32(values)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("delta", [-300.0, -128.0, -31.25, -0.5, 0.4, 7.5, 127.0, 200.0])
@pytest.mark.parametrize("shape", [(30, 40, 3), (67, 129, 3), (131, 53, 1)])
def test_brightness(delta, shape):
    """Small and large pictures; a delta of 7.5 rounds to even levels."""
    image = picture(*shape)
    image.reshape(-1)[:256] = np.arange(256)
    expected = saturated(image.astype(np.float32) + np.float32(delta))
    np.testing.assert_array_equal(Brightness(delta=delta)(image), expected)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.37, 9.0])
def test_contrast(factor):
    image = picture(channels=1)
    expected = saturated(image.astype(np.float32) * np.float32(factor))
    np.testing.assert_array_equal(Contrast(factor=factor)(image), expected)


def test_saturation_scales_s_of_8_bit_hsv():
    hsv = cv2.cvtColor(picture(), cv2.COLOR_BGR2HSV)
    hsv[:, :, 1] = saturated(hsv[:, :, 1] * np.float32(1.3))
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    np.testing.assert_array_equal(Saturation(factor=1.3)(picture()), expected)


@pytest.mark.parametrize("delta", [-18.0, 18.0])
def test_hue_is_cut_off_rather_than_wrapped(delta):
    hsv = cv2.cvtColor(picture(), cv2.COLOR_BGR2HSV)
    hsv[:, :, 0] = saturated(hsv[:, :, 0] + np.float32(delta))
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    np.testing.assert_array_equal(Hue(delta=delta)(picture()), expected)


def test_a_negative_hue_sticks_at_red():
    orange = np.full((2, 3, 3), (0, 60, 255), np.uint8)  # hue 7
    distorted = Hue(delta=-18.0)(orange)
    assert (distorted == (0, 0, 255)).all()


def test_channel_order():
    image = picture()
    np.testing.assert_array_equal(ChannelOrder(order=(2, 0, 1))(image), image[:, :, [2, 0, 1]])


@pytest.mark.parametrize("step", [Hue(delta=1.0), ChannelOrder(order=(0, 2, 1))])
def test_gray_images_have_no_colour(step):
    with pytest.raises(DataError, match=r"gray image.*force_color"):
        step(picture(channels=1))


def test_policy_draws_every_step_half_of_the_time_in_either_order():
    policy = DistortPolicy.from_param(STOCK)
    drawn = [policy.draw(Draws(5, n)) for n in range(2000)]
    for kind in (Brightness, Contrast, Saturation, Hue):
        count = sum(any(isinstance(s, kind) for s in d.steps) for d in drawn)
        assert abs(count - 1000) < 4 * np.sqrt(500)
    orders = {tuple(type(s).__name__ for s in d.steps) for d in drawn}
    assert ("Brightness", "Contrast", "Saturation", "Hue") in orders
    assert ("Brightness", "Saturation", "Hue", "Contrast") in orders
    deltas = [s.delta for d in drawn for s in d.steps if isinstance(s, Brightness)]
    assert -32 <= min(deltas) < -31 < 31 < max(deltas) <= 32


def test_policy_without_probabilities_does_nothing():
    policy = DistortPolicy.from_param(DistortionParameter(brightness_delta=32))
    assert policy.draw(Draws(1, 1)) == Distortion()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"brightness_delta": -1}, r"brightness_delta must be >= 0, got -1"),
        ({"hue_delta": -0.5}, r"hue_delta must be >= 0, got -0\.5"),
        ({"contrast_lower": 2, "contrast_upper": 1}, r"contrast_upper, got 2 and 1"),
        ({"saturation_lower": -1, "saturation_upper": 1}, r"saturation_upper, got -1 and 1"),
    ],
)
def test_wrong_settings(fields, message):
    with pytest.raises(LayerParamError, match=message):
        DistortPolicy.from_param(DistortionParameter(**fields))
