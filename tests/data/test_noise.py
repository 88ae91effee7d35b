"""Filters that the recorded layer cases do not hold: random ones, gray images, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.data.draws import Draws
from caffe_ssd.data.noise import Noise
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import NoiseParameter, SaltPepperParameter
from tests.data.databases import picture

ALL_BUT_COLOUR = {"hist_eq", "inverse", "decolorize", "gauss_blur", "posterize", "erode", "clahe"}


def test_salt_and_pepper():
    param = NoiseParameter(
        saltpepper=True, saltpepper_param=SaltPepperParameter(fraction=0.1, value=[0, 128, 255])
    )
    image = np.full((40, 50, 3), 7, np.uint8)
    noisy = Noise.from_param(param)(image, Draws(1, 1))
    changed = (noisy != 7).any(axis=2)
    assert 160 < changed.sum() <= 200
    assert (noisy[changed] == [0, 128, 255]).all()
    assert (image == 7).all()


def test_gray_images():
    param = NoiseParameter(jpeg=50, **dict.fromkeys(ALL_BUT_COLOUR, True))
    image = picture(channels=1)
    assert Noise.from_param(param)(image, Draws(1, 1)).shape == image.shape


def test_lab_is_8_bit():
    noisy = Noise.from_param(NoiseParameter(convert_to_lab=True))(picture(), Draws(1, 1))
    assert noisy.dtype == np.uint8


@pytest.mark.parametrize("name", ["convert_to_hsv", "convert_to_lab"])
def test_colour_spaces_need_colour(name):
    with pytest.raises(DataError, match=f"gray image, which noise_param.{name} cannot convert"):
        Noise.from_param(NoiseParameter(**{name: True}))(picture(channels=1), Draws(1, 1))


def test_float_images():
    with pytest.raises(DataError, match="float values"):
        Noise.from_param(NoiseParameter(inverse=True))(np.zeros((2, 3, 1), np.float32), Draws(1, 1))


def test_salt_and_pepper_without_a_value():
    with pytest.raises(LayerParamError, match=r"saltpepper needs saltpepper_param\.value"):
        Noise.from_param(NoiseParameter(saltpepper=True))


def test_salt_and_pepper_with_two_values():
    param = NoiseParameter(saltpepper=True, saltpepper_param=SaltPepperParameter(value=[1, 2]))
    with pytest.raises(DataError, match=r"has 3 channels, but .* 2 times"):
        Noise.from_param(param)(picture(), Draws(1, 1))
