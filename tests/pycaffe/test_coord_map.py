"""Coordinate maps, checked against where nets really look."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe import params as P
from caffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from caffe.net_spec import Top

from caffe_ssd.errors import CaffeError


def data() -> Top:
    return L.Input(shape=[{"dim": [1, 1, 40, 40]}])


def test_pass_through_layers_are_the_identity() -> None:
    start = data()
    top = L.Scale(L.BatchNorm(L.ReLU(start, in_place=True)))
    axis, scale, shift = coord_map_from_to(top, start)
    assert axis is None
    assert (scale, shift) == (1, 0)


def test_convolution_pooling_and_back() -> None:
    start = data()
    conv = L.Convolution(start, num_output=1, kernel_size=5, stride=2, pad=1)
    pool = L.Pooling(conv, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    axis, scale, shift = coord_map_from_to(pool, start)
    assert axis == 1
    # the first unit of conv looks at input -1..3, its 2nd at 1..5, so pool's first at centre 3
    assert (scale[0], shift[0]) == (4, 3)
    _, back_scale, back_shift = coord_map_from_to(start, pool)
    assert (back_scale[0], back_shift[0]) == (0.25, -0.75)
    assert coord_map_from_to(conv, pool) == (1, 0.5, -0.5)


def test_dilation_and_explicit_message() -> None:
    start = data()
    conv = L.Convolution(
        start, convolution_param={"num_output": 1, "kernel_size": 3, "dilation": 4, "pad": 1}
    )
    assert coord_map_from_to(conv, start) == (1, 1, 3)
    pool = L.Pooling(start, pooling_param={"kernel_size": 2, "stride": 2})
    assert coord_map_from_to(pool, start) == (1, 2, 0.5)


def test_deconvolution_undoes_a_convolution() -> None:
    start = data()
    settings = {"num_output": 1, "kernel_size": 4, "stride": 2, "pad": 1}
    down = L.Convolution(start, **settings)
    up = L.Deconvolution(down, convolution_param=settings)
    assert coord_map_from_to(up, start) == (1, 1, 0)


def test_sizes_per_axis() -> None:
    start = data()
    conv = L.Convolution(start, num_output=1, kernel_size=[3, 5], stride=[1, 2], pad=[0, 2])
    axis, scale, shift = coord_map_from_to(conv, start)
    assert axis == 1
    assert scale.tolist() == [1, 2]
    assert shift.tolist() == [1, 0]


def test_crop_layer_is_followed_through_its_first_bottom() -> None:
    start, other = data(), data()
    cropped = L.Crop(start, other, axis=2, offset=3)
    assert coord_map_from_to(cropped, start) == (1, 1, 3)
    with pytest.raises(RuntimeError, match="not connected"):
        coord_map_from_to(cropped, other)


def test_maps_compose_and_invert() -> None:
    assert compose((1, 2, 3), (None, 5, 7)) == (1, 10, 17)
    assert inverse((1, 2, 3)) == (1, 0.5, -1.5)
    with pytest.raises(AxisMismatchException, match="axes 1 and 2 cannot be composed"):
        compose((1, 2, 3), (2, 5, 7))


def test_refusals() -> None:
    start = data()
    with pytest.raises(UndefinedMapException, match="type InnerProduct have no coordinate map"):
        coord_map(L.InnerProduct(start, num_output=1).fn)
    with pytest.raises(UndefinedMapException, match="needs kernel_size, not kernel_h"):
        coord_map(L.Convolution(start, kernel_h=3, kernel_w=5).fn)
    with pytest.raises(RuntimeError, match="not connected"):
        coord_map_from_to(L.InnerProduct(start, num_output=1), start)
    for top, match in (
        (L.Pooling(start, kernel_size=2, stride=2), "a crop needs scale 1"),
        (L.Convolution(start, num_output=1, kernel_size=2), "a shift by whole pixels"),
    ):
        with pytest.raises(AssertionError, match=match):
            crop(start, top)
    with pytest.raises(CaffeError, match="needs shift <= 0"):
        crop(L.Convolution(start, num_output=1, kernel_size=3), start)


def test_crop_aligns_an_upsampled_score_with_the_image(tmp_path: Path) -> None:
    n = caffe.NetSpec()
    n.data = L.Input(shape=[{"dim": [1, 1, 21, 26]}])
    n.conv = L.Convolution(
        n.data, num_output=1, kernel_size=3, stride=2, pad=10, weight_filler={"type": "constant"}
    )
    n.up = L.Deconvolution(
        n.conv, convolution_param={"num_output": 1, "kernel_size": 3, "stride": 2}
    )
    n.score = crop(n.up, n.data)
    message = n.to_proto()
    assert message.layer[-1].crop_param.axis == 2
    assert list(message.layer[-1].crop_param.offset) == [10]
    path = tmp_path / "net.prototxt"
    path.write_text(str(message))
    net = caffe.Net(str(path), caffe.TEST)
    for name in ("conv", "up"):
        net.params[name][0].data[...] = 0
        net.params[name][0].data[0, 0, 1, 1] = 1  # take, and put back, the centre
    net.blobs["data"].data[...] = np.random.default_rng(0).random((1, 1, 21, 26))
    score = net.forward()["score"]
    assert score.shape == (1, 1, 21, 26)
    seen = score != 0
    assert seen.sum() > 100
    np.testing.assert_array_equal(score[seen], net.blobs["data"].data[seen])
