"""Lazy pictures equal the same stages done one after the other on whole images."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.data.decode import jpeg_roundtrip
from caffe_ssd.data.distort import Brightness, Contrast, Distortion, Hue, Saturation
from caffe_ssd.data.pictures import Cropped, Decoded, Distorted, Pasted, PixelWindow, Recompressed
from tests.data.databases import picture

COLOUR = Distortion(steps=(Brightness(delta=20.3), Saturation(factor=1.4), Hue(delta=-9.0)))
GRAY = Distortion(steps=(Contrast(factor=1.3),))


def random_window(rng, height, width):
    x0, y0 = rng.integers(width - 1), rng.integers(height - 1)
    x1, y1 = rng.integers(x0 + 1, width + 1), rng.integers(y0 + 1, height + 1)
    return PixelWindow(int(x0), int(y0), int(x1), int(y1))


def random_image(rng, channels):
    height, width = rng.integers(17, 150, 2)
    if rng.random() < 0.5:
        return rng.integers(0, 256, (height, width, channels), np.uint8)
    return picture(int(height), int(width), channels, seed=int(rng.integers(1000)))


@pytest.mark.parametrize("seed", range(40))
def test_expanded_and_cropped(seed):
    rng = np.random.default_rng(seed)
    channels = 1 if seed % 4 == 0 else 3
    image, distortion = random_image(rng, channels), GRAY if channels == 1 else COLOUR
    height, width = image.shape[:2]
    canvas_h, canvas_w = int(height * rng.uniform(1, 4)), int(width * rng.uniform(1, 4))
    y, x = int(rng.integers(canvas_h - height + 1)), int(rng.integers(canvas_w - width + 1))
    crop = random_window(rng, canvas_h, canvas_w)
    fill = np.array([104, 117, 123][:channels], np.float32)

    lazy = Recompressed(Distorted(Decoded(image), distortion))
    lazy = Recompressed(Pasted(lazy, height=canvas_h, width=canvas_w, y_off=y, x_off=x, fill=fill))
    lazy = Recompressed(Cropped(lazy, crop))

    canvas = np.tile(fill.astype(np.uint8), (canvas_h, canvas_w, 1))
    canvas[y : y + height, x : x + width] = jpeg_roundtrip(distortion(image))
    whole = jpeg_roundtrip(canvas)[crop.y0 : crop.y1, crop.x0 : crop.x1]
    np.testing.assert_array_equal(lazy.pixels(), jpeg_roundtrip(np.ascontiguousarray(whole)))


@pytest.mark.parametrize("seed", range(10))
def test_any_window_of_a_round_trip(seed):
    rng = np.random.default_rng(seed)
    image = random_image(rng, 3)
    window = random_window(rng, *image.shape[:2])
    whole = jpeg_roundtrip(image)[window.y0 : window.y1, window.x0 : window.x1]
    np.testing.assert_array_equal(Recompressed(Decoded(image)).read(window), whole)


def test_a_window_beside_the_content_is_fill():
    image = picture()
    pasted = Pasted(
        Decoded(image), height=90, width=80, y_off=50, x_off=30, fill=np.float32([9, 8, 7])
    )
    assert (pasted.read(PixelWindow(2, 3, 10, 20)) == [9, 8, 7]).all()
    np.testing.assert_array_equal(pasted.pixels()[50:80, 30:70], image)


def test_inputs_are_not_changed():
    image = picture()
    before = image.copy()
    Distorted(Decoded(image), COLOUR).pixels()
    np.testing.assert_array_equal(image, before)
