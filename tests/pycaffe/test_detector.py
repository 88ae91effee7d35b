"""caffe.Detector: windows with and without context."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import caffe
import cv2
import numpy as np
import pytest
from caffe.io import load_image, resize_image

from caffe_ssd.errors import CaffeError
from tests.pycaffe.tiny import CONV, make_net

MEAN = [10.0, 20.0, 30.0]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    net = make_net(tmp_path, CONV.replace("dim: 8 dim: 6", "dim: 8 dim: 8"))
    net.save(str(tmp_path / "w.caffemodel"))
    return str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel")


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = str(tmp_path / "picture.png")
    cv2.imwrite(path, np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8))
    return path


def test_windows(files: tuple[str, str], picture: str) -> None:
    detector = caffe.Detector(*files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0))
    windows = [(0, 0, 10, 20), (5, 7, 30, 40), (3, 4, 11, 12)]
    found = detector.detect_windows([(picture, windows[:2]), (picture, np.array(windows[2:]))])
    assert [tuple(each["window"]) for each in found] == windows
    assert {each["filename"] for each in found} == {picture}
    image = load_image(picture)
    for each, (ymin, xmin, ymax, xmax) in zip(found, windows, strict=True):
        crop = resize_image(image[ymin:ymax, xmin:xmax], (8, 8))
        blob = crop[:, :, ::-1].transpose(2, 0, 1) * 255 - np.array(MEAN)[:, None, None]
        detector.blobs["data"].data[...] = blob
        np.testing.assert_allclose(each["prediction"], detector.forward()["prob"][0], rtol=1e-3)


def test_context_inside_the_image(files: tuple[str, str]) -> None:
    detector = caffe.Detector(*files, context_pad=2)
    image = np.random.default_rng(1).random((40, 50, 3)).astype(np.float32)
    # 8 px with 2 px of context on both sides show twice the window: 9 + 1 px become 20.
    crop = detector.crop(image, (15, 20, 24, 29))
    np.testing.assert_array_equal(crop, resize_image(image[10:30, 15:35], (8, 8)))


def test_context_beyond_the_image_is_the_mean(files: tuple[str, str]) -> None:
    detector = caffe.Detector(
        *files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0), context_pad=2
    )
    image = np.full((40, 50, 3), 0.5, np.float32)
    crop = detector.crop(image, (0, 20, 9, 29))
    # the window's 10 rows grow to 5 above the border and 15 below: 2 rows of mean, 6 of image
    np.testing.assert_allclose(crop[:2], np.tile(np.array(MEAN[::-1]) / 255, (2, 8, 1)), rtol=1e-6)
    assert (crop[2:] == 0.5).all()
    blob = detector.transformer.preprocess("data", crop)
    np.testing.assert_allclose(blob[:, :2], 0, atol=1e-5)


def test_refusals(files: tuple[str, str], picture: str) -> None:
    detector = caffe.Detector(*files)
    with pytest.raises(CaffeError, match="there are no windows to score"):
        detector.detect_windows([(picture, [])])
    with pytest.raises(CaffeError, match=r"\[5, 5, 5, 9\] has no pixels in an image \[30, 40, 3\]"):
        detector.detect_windows([(picture, [(5, 5, 5, 9)])])
    with pytest.raises(CaffeError, match="context_pad 4 needs a square input of more than twice"):
        caffe.Detector(*files, context_pad=4).crop(load_image(picture), (0, 0, 5, 5))


def test_selective_search(
    files: tuple[str, str], picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = caffe.Detector(*files)
    with pytest.raises(CaffeError, match="needs the package selective_search_ijcv_with_python"):
        detector.detect_selective_search([picture])
    fake = types.ModuleType("selective_search_ijcv_with_python")
    fake.get_windows = lambda names, cmd: [[(1, 2, 13, 14)] for _ in names]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    (found,) = detector.detect_selective_search([picture])
    assert found["window"] == (1, 2, 13, 14)
