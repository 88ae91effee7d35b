"""The recorded cases of data layers: which layer, on which database, and what it must give."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.data.databases import data_layer
from tests.support.golden import GOLDEN

Case = dict[str, Any]
CASES: list[Case] = json.loads((GOLDEN / "data" / "layer" / "cases.json").read_text())
BY_NAME = {case["name"]: case for case in CASES}

# OpenCV 5 and other processors round a few pixels of these the other way.
FRACTIONAL = ("area", "cubic", "lanczos4")


def build(case: Case, databases: Path) -> RecordLayer:
    """The layer of a case, on databases in a folder."""
    param = text_format.Parse(case["prototxt"], NetParameter()).layer[0]
    param.data_param.source = str(databases / param.data_param.source)
    return data_layer(str(param), phase=case["phase"])


def pixels(case: Case, data: np.ndarray) -> np.ndarray:
    """What is recorded of a blob: 8-bit images, or the blob itself."""
    if case["kind"] == "float32":
        return data
    mean = np.float32(case["mean_added"] or [0])[None, :, None, None]
    return np.rint(data + mean).astype(np.uint8)


def check_label(label: np.ndarray, recorded: np.ndarray) -> None:
    """Compare label blobs; those of classification have one axis, recorded as four."""
    assert label.size == recorded.size
    np.testing.assert_allclose(label.reshape(recorded.shape), recorded, atol=1e-6)


def check_pixels(case: Case, have: np.ndarray, want: np.ndarray) -> None:
    """Compare pixels, or every so many of them."""
    difference = np.abs(have.astype(float) - want)
    if case["name"].endswith(FRACTIONAL):
        assert difference.max() <= 1
        assert difference.mean() < 0.1
    elif "tolerance_note" in case:
        assert difference.mean() <= 0.5
    elif case["kind"] == "float32":
        np.testing.assert_allclose(have, want, rtol=1e-6)
    else:
        np.testing.assert_array_equal(have, want)


def check_photographs(case: Case, golden: Path) -> None:
    """Run a case on the databases it was recorded on.

    Args:
        case: the case.
        golden: the folder that holds them, and whole pictures' checksums and sparse pixels.
    """
    layer, arrays = build(case, golden / "data"), np.load(golden / f"data/layer/{case['name']}.npz")
    every = case["stride"]
    for i, output in enumerate(case["outputs"]):
        data, label = (top.numpy() for top in layer())
        assert list(data.shape) == output["data_shape"]
        check_label(label, arrays[f"label_{i}"])
        images = pixels(case, data)
        check_pixels(case, images[:, :, ::every, ::every], arrays[f"data_{i}"])
        exact = not case["name"].endswith(FRACTIONAL) and "tolerance_note" not in case
        if exact and case["kind"] == "uint8":
            sums = [zlib.crc32(np.ascontiguousarray(image).tobytes()) for image in images]
            assert sums == output["crc32"]
