"""caffe.Classifier against the steps done by hand."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe.io import oversample, resize_image

from caffe_ssd.errors import CaffeError
from tests.pycaffe.tiny import CONV, make_net

SETTINGS = {"mean": [0.1, 0.2, 0.3], "raw_scale": 2, "input_scale": 3, "channel_swap": (2, 1, 0)}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    net = make_net(tmp_path, CONV)
    net.save(str(tmp_path / "w.caffemodel"))
    return str(tmp_path / "net.prototxt"), str(tmp_path / "w.caffemodel")


def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.random(shape).astype(np.float32) for shape in ((20, 17, 3), (9, 30, 3), (8, 6, 3))]


def scores(net: caffe.Net, crop: np.ndarray) -> np.ndarray:
    """The probabilities of one (8, 6, 3) crop."""
    blob = crop[:, :, ::-1].transpose(2, 0, 1) * 2 - np.array([0.1, 0.2, 0.3])[:, None, None]
    net.blobs["data"].data[...] = blob * 3
    return net.forward()["prob"][0].copy()


def test_centre_crops(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files, image_dims=(13, 11), **SETTINGS)
    predicted = classifier.predict(images(), oversample=False)
    assert predicted.shape == (3, 5)
    for image, row in zip(images(), predicted, strict=True):
        crop = resize_image(image, (13, 11))[2:10, 2:8]
        np.testing.assert_allclose(row, scores(classifier, crop), rtol=1e-4)


def test_ten_crops_are_averaged(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files, image_dims=[13, 11], **SETTINGS)
    predicted = classifier.predict(images())
    for image, row in zip(images(), predicted, strict=True):
        crops = oversample([resize_image(image, (13, 11))], (8, 6))
        expected = np.mean([scores(classifier, crop) for crop in crops], axis=0)
        np.testing.assert_allclose(row, expected, rtol=1e-4)


def test_image_dims_default_to_the_input(files: tuple[str, str]) -> None:
    classifier = caffe.Classifier(*files)
    assert classifier.image_dims.tolist() == [8, 6]
    assert classifier.transformer.transpose == {"data": (2, 0, 1)}
    assert isinstance(classifier, caffe.Net)


def test_refusals(files: tuple[str, str]) -> None:
    with pytest.raises(CaffeError, match="there are no images to classify"):
        caffe.Classifier(*files).predict([])
    small = caffe.Classifier(*files, image_dims=(7, 9))
    with pytest.raises(CaffeError, match=r"image_dims \[7, 9\] < the input \[8, 6\]"):
        small.predict(images(), oversample=False)
