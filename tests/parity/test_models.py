"""Released detectors give the detections and blobs that the reference recorded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import caffe
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caffe_ssd.net import build_net
from caffe_ssd.net.weights import copy_trained_file
from caffe_ssd.proto.caffe_pb2 import TEST, NetState
from caffe_ssd.proto.text import read_net
from tests.support.golden import SHARED_GOLDEN, needs_shared

pytestmark = needs_shared
MODELS = SHARED_GOLDEN / "models"
NAMES = ("wechat_qrcode", "yufacedetectnet-open-v1")
CASES = 5  # per model; the last one reshapes the input


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One model and what the reference gives for it."""

    folder: Path
    facts: dict[str, Any]

    @property
    def prototxt(self) -> str:
        return str(self.folder / self.facts["prototxt"])

    @property
    def weights(self) -> str:
        return str(self.folder / self.facts["weights"])

    def input(self, case: dict[str, Any]) -> NDArray[np.float32]:
        """The net's input for a case: (1, C, H, W)."""
        pixels = cv2.imread(str(self.folder / case["input"]), cv2.IMREAD_UNCHANGED)
        pixels = np.atleast_3d(pixels).astype(np.float32)
        steps = self.facts["preprocessing"]
        pixels = (pixels - np.float32(steps["mean"])) * np.float32(steps["scale"])
        return pixels.transpose(2, 0, 1)[None]


@cache
def recorded(name: str) -> Recorded:
    facts = json.loads((MODELS / name / "expected.json").read_text(encoding="utf-8"))
    assert len(facts["cases"]) == CASES
    return Recorded(folder=MODELS / name, facts=facts)


@cache
def pycaffe_net(name: str) -> caffe.Net:
    model = recorded(name)
    return caffe.Net(model.prototxt, caffe.TEST, weights=model.weights)


def assert_same_rows(have: NDArray[np.float32], rows: list[list[float]]) -> None:
    have, want = have.reshape(-1, 7), np.array(rows, np.float32)
    np.testing.assert_array_equal(have[:, 1], want[:, 1])
    np.testing.assert_allclose(have[:, 2], want[:, 2], atol=1e-4)
    np.testing.assert_allclose(have[:, 3:], want[:, 3:], atol=1e-3)


def assert_same_blob(have: NDArray[np.float32], want: dict[str, Any], name: str) -> None:
    """Sums are as exact as float32 sums of other order can be."""
    assert list(have.shape) == want["shape"], name
    mass = want["sum_of_magnitudes"]
    assert float(have.sum(dtype=np.float64)) == pytest.approx(want["sum"], abs=1e-5 * mass), name
    assert float(np.abs(have).sum(dtype=np.float64)) == pytest.approx(mass, rel=1e-5), name
    largest = want["largest_magnitude"]
    assert float(np.abs(have).max()) == pytest.approx(largest, rel=1e-5), name
    values = have.ravel()[want["at"]]
    np.testing.assert_allclose(values, want["values"], atol=1e-5 * largest, err_msg=name)


@pytest.mark.parametrize("index", range(CASES))
@pytest.mark.parametrize("name", NAMES)
def test_detections_and_blobs(name: str, index: int) -> None:
    """One net serves all cases, so the input is also reshaped there and back."""
    model, net = recorded(name), pycaffe_net(name)
    case = model.facts["cases"][index]
    data = net.blobs[model.facts["input_blob"]]
    data.reshape(*case["net_input_shape"])
    data.data[...] = model.input(case)
    rows = net.forward()[model.facts["output_blob"]]
    assert_same_rows(rows, case["detection_out"])
    for blob, want in case["blobs"].items():
        assert_same_blob(net.blobs[blob].data, want, blob)


def same_size_cases(model: Recorded) -> list[dict[str, Any]]:
    return [case for case in model.facts["cases"] if "reshaped" not in case]


def assert_same_batch(rows: NDArray[np.float32], cases: list[dict[str, Any]]) -> None:
    """An image without detections has no row as long as another image has one."""
    rows = rows.reshape(-1, 7)
    for i, case in enumerate(cases):
        want = [row for row in case["detection_out"] if row[1] >= 0]
        assert_same_rows(rows[rows[:, 0] == i], want or np.empty((0, 7)))
    assert (np.diff(rows[:, 0]) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_batch_through_pycaffe(name: str) -> None:
    model, net = recorded(name), pycaffe_net(name)
    cases = same_size_cases(model)
    batch = np.concatenate([model.input(case) for case in cases])
    net.blobs[model.facts["input_blob"]].reshape(*batch.shape)
    net.blobs[model.facts["input_blob"]].data[...] = batch
    assert_same_batch(net.forward()[model.facts["output_blob"]], cases)


@pytest.mark.parametrize("name", NAMES)
def test_batch_through_the_engine(name: str) -> None:
    """The engine's net joins BatchNorm, Scale and ReLU, and takes any batch as it comes."""
    model = recorded(name)
    net = build_net(read_net(model.prototxt), NetState(phase=TEST))
    copy_trained_file(net, model.weights)
    cases = same_size_cases(model)
    batch = torch.from_numpy(np.concatenate([model.input(case) for case in cases]))
    with torch.no_grad():
        blobs = net({model.facts["input_blob"]: batch}).blobs
    assert_same_batch(blobs[model.facts["output_blob"]].numpy(), cases)
