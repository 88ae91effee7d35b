"""BlobProto <-> numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.errors import ProtoError
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array, has_diff, is_legacy
from caffe_ssd.proto.caffe_pb2 import BlobProto


@given(st.lists(st.integers(0, 4), max_size=5), st.booleans())
def test_round_trip(shape: list[int], with_diff: bool) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 3
    blob = array_to_blob(values, -values if with_diff else None)
    assert BlobProto.FromString(blob.SerializeToString()) == blob
    np.testing.assert_array_equal(blob_to_array(blob), values, strict=True)
    assert list(blob.data) == values.ravel().tolist()
    assert has_diff(blob) == (with_diff and values.size > 0)
    if with_diff:
        np.testing.assert_array_equal(blob_to_array(blob, diff=True), -values, strict=True)


def test_any_layout_is_stored_row_by_row() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert list(array_to_blob(values.T).data) == [0, 3, 1, 4, 2, 5]
    assert values.dtype == np.float64


def test_special_values_survive() -> None:
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], dtype=np.float32)
    assert blob_to_array(array_to_blob(values)).tobytes() == values.tobytes()


def test_result_belongs_to_the_caller() -> None:
    blob = array_to_blob([1.0, 2.0])
    blob_to_array(blob)[0] = 9
    assert list(blob.data) == [1, 2]


def test_legacy_shape_wins() -> None:
    blob = BlobProto(data=[1, 2, 3, 4, 5, 6], num=1, channels=3, height=1, width=2)
    blob.shape.dim.append(6)
    assert is_legacy(blob)
    assert blob_to_array(blob).shape == (1, 3, 1, 2)


def test_doubles_are_preferred() -> None:
    blob = BlobProto(data=[1, 2], double_data=[0.1, 0.2], double_diff=[3, 4])
    blob.shape.dim.append(2)
    np.testing.assert_array_equal(blob_to_array(blob), np.float32([0.1, 0.2]), strict=True)
    np.testing.assert_array_equal(blob_to_array(blob, diff=True), np.float32([3, 4]), strict=True)


def test_scalar_has_one_value() -> None:
    blob = BlobProto(data=[7])
    assert blob_to_array(blob).shape == ()
    assert array_to_blob(np.float32(7)).data == [7]


def test_wrong_number_of_values() -> None:
    blob = BlobProto(data=[1, 2, 3], num=1, channels=2, height=1, width=2)
    with pytest.raises(ProtoError, match=r"shape \[1, 2, 1, 2\] needs 4 values, its data has 3"):
        blob_to_array(blob)
    with pytest.raises(ProtoError, match="its diff has 0"):
        blob_to_array(blob, diff=True)
    with pytest.raises(ProtoError, match="a diff of 3 values for 2 values"):
        array_to_blob([1, 2], [1, 2, 3])


def test_negative_shape_is_refused() -> None:
    blob = BlobProto(data=[1, 2])
    blob.shape.dim.extend([-1, -2])
    with pytest.raises(ProtoError, match=r"shape \[-1, -2\]"):
        blob_to_array(blob)
