"""Resizing; the recorded layer cases hold its numbers, so here stand the rest and the refusals."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.data.draws import Draws
from caffe_ssd.data.resize import Resize
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import ResizeParameter
from tests.data.databases import picture

P = ResizeParameter


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (P.WARP, (20, 30)),
        (P.FIT_SMALL_SIZE, (22, 30)),
        (P.FIT_LARGE_SIZE_AND_PAD, (20, 30)),
    ],
)
def test_output_size(mode, expected, channels):
    resize = Resize.from_param(P(height=20, width=30, resize_mode=mode))
    image = picture(30, 40, channels)
    assert resize.output_size(30, 40) == expected
    assert resize.resize(image, resize.interpolations[0]).shape == (*expected, channels)


def test_boxes_of_padding_follow_the_image():
    """A wide image into a square: the margin above and below is exactly 7.5 pixels."""
    resize = Resize.from_param(P(height=30, width=30, resize_mode=P.FIT_LARGE_SIZE_AND_PAD))
    boxes = np.float32([[-0.1, -0.2, 0.5, 0.5], [0.25, 0.5, 1.25, 1.5]])
    before = boxes.copy()
    moved = resize.resize_boxes(boxes, height=20, width=40)
    np.testing.assert_allclose(moved[0], [0, 0.25, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(moved[1], [0.25, 0.5, 1, (7.5 + 22.5) / 30], atol=1e-6)
    np.testing.assert_array_equal(boxes, before)


def test_interpolations_are_equally_likely():
    resize = Resize.from_param(P(height=2, width=3, interp_mode=[P.LINEAR, P.AREA, P.CUBIC]))
    counts = np.bincount([resize.draw(Draws(1, n)) for n in range(3000)])
    counts = counts[counts > 0]
    assert len(counts) == 3
    assert abs(counts - 1000).max() < 4 * np.sqrt(667)


def test_scales_larger_than_the_crop():
    param = P(height=30, width=40, resize_mode=P.FIT_SMALL_SIZE, height_scale=31, width_scale=20)
    crop = np.float32([0, 0, 1, 1])
    with pytest.raises(DataError, match=r"is 30 x 45 pixels .* height_scale 31 x width_scale 20"):
        Resize.from_param(param).scale_boxes(crop[None], crop, height=20, width=30)


def test_pad_value_per_channel_of_a_gray_image():
    param = P(height=9, width=9, resize_mode=P.FIT_LARGE_SIZE_AND_PAD, pad_value=[1.0, 2.0, 3.0])
    resize = Resize.from_param(param)
    with pytest.raises(DataError, match=r"has 1 channels, but resize_param\.pad_value .* 3 times"):
        resize.resize(picture(channels=1), resize.interpolations[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 3}, r"height > 0 and width > 0, got 3 and 0"),
        ({"height": 3, "width": 4, "pad_value": [1.0, 2.0]}, "once or per channel, got 2"),
    ],
)
def test_wrong_settings(fields, message):
    with pytest.raises(LayerParamError, match=message):
        Resize.from_param(P(**fields))
