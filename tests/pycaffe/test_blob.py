"""Blobs: live arrays, reshaping, aliases."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest

from caffe_ssd.layers.blob import Blob
from tests.pycaffe.tiny import CONV, REGRESSION, make_net

RESHAPES = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }
layer {
  name: "r" type: "Reshape" bottom: "x" top: "r"
  reshape_param { shape { dim: 3 dim: 2 dim: 2 } }
}
layer { name: "f" type: "Flatten" bottom: "r" top: "f" }
layer { name: "a" type: "Power" bottom: "f" top: "a" power_param { scale: 2 } }
layer { name: "b" type: "Power" bottom: "f" top: "b" power_param { scale: 5 } }
"""


def test_new_blob_is_a_zero_scalar() -> None:
    blob = Blob()
    assert blob.shape == []
    assert blob.count == blob.num == blob.width == 1
    assert blob.data.shape == ()
    assert blob.data == 0


def test_arrays_are_float32_live_and_writable() -> None:
    blob = Blob((2, 3))
    early = blob.data
    blob.data[...] = 7
    blob.diff[1, 2] = 5
    assert early.dtype == np.float32
    assert (early == 7).all()
    assert blob.diff.sum() == 5
    with pytest.raises(AttributeError):
        blob.data = np.zeros((2, 3))  # type: ignore[misc]


def test_reshape_keeps_a_flat_prefix_and_capacity() -> None:
    blob = Blob((2, 3))
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.reshape(4)
    assert blob.data.tolist() == [0, 1, 2, 3]
    blob.reshape(3, 2)
    assert blob.data.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    blob.reshape(2, 4)
    assert blob.data.ravel().tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    blob.reshape()
    assert blob.data.shape == ()


def test_legacy_axes() -> None:
    blob = Blob((2, 3, 4))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 1)
    blob.reshape(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"<= 4 axes, not \[1, 2, 3, 4, 5\]"):
        _ = blob.num


def test_forward_writes_into_the_array_fetched_before(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    out = net.blobs["fc"].data
    net.params["fc"][0].data[...] = 1
    net.blobs["x"].data[...] = 2
    net.forward()
    assert (out == 6).all()
    net.blobs["x"].data[...] = 3
    net.forward()
    assert (out == 9).all()


def test_array_outlives_the_net(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    net.blobs["x"].data[...] = 2
    array, weights = net.blobs["x"].data, net.params["fc"][0].data
    weights[...] = 4
    del net
    assert (array == 2).all()
    assert (weights == 4).all()


def test_outgrown_array_is_left_behind(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.forward()
    small = net.blobs["conv"].data
    before = small.copy()
    net.blobs["data"].reshape(3, 3, 10, 9)
    net.blobs["data"].data[...] = 1
    net.forward()
    assert net.blobs["conv"].data.shape == (3, 4, 8, 7)
    assert (small == before).all()
    net.blobs["data"].reshape(1, 3, 8, 6)
    net.forward()
    assert net.blobs["conv"].data.shape == (1, 4, 6, 4)


def test_aliases_of_reshape_flatten_and_split(tmp_path: Path) -> None:
    net = make_net(tmp_path, RESHAPES)
    splits = [name for name in net.blobs if "split" in name]
    assert splits == ["f_f_0_split_0", "f_f_0_split_1"]
    net.blobs["x"].data[...] = np.arange(12).reshape(2, 6)
    net.forward()
    for name in ("r", "f", *splits):
        assert net.blobs[name].data.ravel().tolist() == list(range(12))
    net.blobs[splits[1]].data[0, 1] = 100
    assert net.blobs["x"].data[0, 1] == 100
    assert net.blobs["r"].data[0, 0, 1] == 100
    net.forward()
    assert net.blobs["b"].data[0, 1] == 500
    net.blobs["r"].diff[...] = 3
    assert (net.blobs["x"].diff == 3).all(), "Reshape shares diffs"
    assert (net.blobs[splits[0]].diff == 0).all(), "Split does not"


def test_shared_parameters_are_one_blob(tmp_path: Path) -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
      inner_product_param { num_output: 3 bias_term: false } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
      inner_product_param { num_output: 3 bias_term: false } }
    """
    net = make_net(tmp_path, text)
    net.params["a"][0].data[...] = np.eye(3) * 2
    assert (net.params["b"][0].data == np.eye(3) * 2).all()
    net.blobs["x"].data[...] = 1
    assert (net.forward()["b"] == 4).all()


def test_parameter_diff_is_live(tmp_path: Path) -> None:
    net = make_net(tmp_path, REGRESSION, caffe.TRAIN)
    diff = net.params["fc"][0].diff
    net.blobs["x"].data[...] = 1
    net.blobs["y"].data[...] = 1
    net.forward()
    net.backward()
    once = diff.copy()
    assert np.abs(once).sum() > 0
    net.backward()
    np.testing.assert_allclose(diff, 2 * once, rtol=1e-6)
    net.clear_param_diffs()
    assert not diff.any()
