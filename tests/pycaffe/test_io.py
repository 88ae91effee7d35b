"""caffe.io: images, the Transformer, messages."""

from __future__ import annotations

from pathlib import Path

import caffe
import cv2
import numpy as np
import pytest
from caffe.io import Transformer, load_image, oversample, resize_image
from numpy.typing import NDArray

from caffe_ssd.errors import CaffeError
from caffe_ssd.proto.caffe_pb2 import BlobProto, Datum


def bilinear_padded(image: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The naive loop: pixel centres half a pixel inside, zeros outside the image."""
    rows, columns, channels = image.shape

    def pixel(y: int, x: int) -> NDArray[np.float64]:
        inside = 0 <= y < rows and 0 <= x < columns
        return image[y, x] if inside else np.zeros(channels)

    result = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y, x = (i + 0.5) * rows / height - 0.5, (j + 0.5) * columns / width - 0.5
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            dy, dx = y - y0, x - x0
            result[i, j] = (
                (1 - dy) * (1 - dx) * pixel(y0, x0)
                + (1 - dy) * dx * pixel(y0, x0 + 1)
                + dy * (1 - dx) * pixel(y0 + 1, x0)
                + dy * dx * pixel(y0 + 1, x0 + 1)
            )
    return result


def draw(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(sum(shape)).uniform(-2, 5, shape).astype(np.float32)


# Loading -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "dtype"), [(1, "u1"), (3, "u1"), (4, "u1"), (3, "u2")])
def test_load_image(channels: int, dtype: str, tmp_path: Path) -> None:
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (5, 7, channels)).astype(dtype)
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, pixels)
    rgb = pixels[:, :, [0, 0, 0]] if channels == 1 else pixels[:, :, [2, 1, 0]]
    image = load_image(path)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, rgb / top, rtol=1e-6)
    gray = load_image(path, color=False)
    expected = rgb / top @ [0.2125, 0.7154, 0.0721] if channels > 1 else pixels[:, :, 0] / top
    assert gray.shape == (5, 7, 1)
    np.testing.assert_allclose(gray[:, :, 0], expected, rtol=1e-5)


def test_load_image_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=r"Could not open file no\.png: No such file"):
        load_image("no.png")
    for content in (b"", b"text"):
        (tmp_path / "text.png").write_bytes(content)
        with pytest.raises(CaffeError, match=r"text\.png: cannot be decoded as an image"):
            load_image(str(tmp_path / "text.png"))


# Resizing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(3, 4), (9, 4), (11, 13), (5, 7), (1, 1)])
def test_resize_is_the_naive_loop_on_the_unit_range(channels: int, size: tuple[int, int]) -> None:
    image = draw(5, 7, channels)
    before = image.copy()
    low, high = float(image.min()), float(image.max())
    unit = (image.astype(np.float64) - low) / (high - low)
    expected = bilinear_padded(unit, *size) * (high - low) + low
    resized = resize_image(image, size)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(image, before)


def test_enlarging_fades_to_the_smallest_value_at_the_border() -> None:
    image = np.full((2, 2, 1), 8, np.float32)
    image[0, 0] = 4
    resized = resize_image(image, (4, 4))[:, :, 0]
    assert resized[3, 3] == pytest.approx(4 + 4 * 0.75 * 0.75)
    assert resized[2, 2] == pytest.approx(4 + 4 * (1 - 0.25 * 0.25))


def test_orders() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 6, 1)
    assert resize_image(image, (2, 3), 0).ravel().tolist() == [1, 3, 5, 7, 9, 11]
    cubic = resize_image(image, (2, 6), 3)
    np.testing.assert_allclose(cubic[:, :, 0], image[:, :, 0], atol=1e-5)
    # between the pixels of a line the curve runs through the line
    line = resize_image(np.linspace(0, 1, 8).reshape(1, 8, 1), (1, 4), 3).ravel()
    np.testing.assert_allclose(line[1:3], [2.5 / 7, 4.5 / 7], rtol=1e-5)
    with pytest.raises(CaffeError, match="interp_order is 2; allowed: 0"):
        resize_image(image, (3, 3), 2)


def test_other_channel_counts_keep_the_corners() -> None:
    image = draw(3, 4, 5)
    resized = resize_image(image, (6, 9))
    assert resized.shape == (6, 9, 5)
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(resized[y, x], image[y, x], rtol=1e-6)
    np.testing.assert_allclose(resize_image(image, (5, 4))[1], (image[0] + image[1]) / 2, rtol=1e-5)
    with pytest.raises(CaffeError, match="with 5 channels allowed: 0, 1"):
        resize_image(image, (6, 9), 3)


def test_constant_and_wrong_images() -> None:
    flat = resize_image(np.full((2, 3, 3), 7, np.uint8), (4, 5))
    assert flat.dtype == np.float32
    assert flat.shape == (4, 5, 3)
    assert (flat == 7).all()
    with pytest.raises(CaffeError, match=r"got \[2, 3\] and \[4, 5\]"):
        resize_image(np.zeros((2, 3)), (4, 5))
    with pytest.raises(CaffeError, match=r"a size > 0 are needed"):
        resize_image(np.zeros((2, 3, 1)), (0, 5))


# Transformer -------------------------------------------------------------------------------------


def transformer() -> Transformer:
    made = Transformer({"data": (10, 3, 4, 6)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (2, 1, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", np.array([1, 2, 3]))
    made.set_input_scale("data", 0.5)
    return made


def test_preprocess_and_back() -> None:
    image = draw(4, 6, 3)
    before = image.copy()
    blob = transformer().preprocess("data", image)
    expected = (image[:, :, ::-1].transpose(2, 0, 1) * 255 - np.array([1, 2, 3])[:, None, None]) / 2
    np.testing.assert_allclose(blob, expected, rtol=1e-5)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_allclose(transformer().deprocess("data", blob[None]), image, rtol=1e-5)


def test_preprocess_resizes() -> None:
    image = draw(8, 5, 3)
    plain = Transformer({"data": (1, 3, 4, 6)})
    np.testing.assert_array_equal(plain.preprocess("data", image), resize_image(image, (4, 6)))


def test_preprocess_never_returns_its_argument() -> None:
    image = draw(4, 6, 3)
    blob = Transformer({"data": [1, 3, 4, 6]}).preprocess("data", image)
    np.testing.assert_array_equal(blob, image)
    assert not np.shares_memory(blob, image)


def test_means() -> None:
    made = Transformer({"data": (1, 3, 2, 4), "gray": (1, 1, 2, 4)})
    made.set_mean("data", draw(3, 2, 4))
    assert made.mean["data"].shape == (3, 2, 4)
    made.set_mean("gray", draw(2, 4))
    assert made.mean["gray"].shape == (1, 2, 4)
    for name, mean in (("data", draw(4)), ("data", draw(2, 4)), ("data", draw(3, 4, 2))):
        with pytest.raises(ValueError, match=r"mean of 'data' .* allowed: \[3\] or \[3, 2, 4\]"):
            made.set_mean(name, mean)


def test_wrong_settings() -> None:
    made = Transformer({"data": (1, 3, 2, 4)})
    with pytest.raises(CaffeError, match="'label' is not one of the inputs: data"):
        made.preprocess("label", draw(2, 4, 3))
    with pytest.raises(CaffeError, match=r"must order the axes 0\.\.2, got \(1, 0\)"):
        made.set_transpose("data", (1, 0))
    with pytest.raises(CaffeError, match=r"needs 3 channels, got \(1, 0\)"):
        made.set_channel_swap("data", (1, 0))


# Crops -------------------------------------------------------------------------------------------


def test_oversample() -> None:
    images = [draw(6, 9, 2), draw(6, 9, 2) + 1]
    crops = oversample(images, (3, 4))
    assert crops.shape == (20, 3, 4, 2)
    for i, image in enumerate(images):
        for j, (y, x) in enumerate([(0, 0), (0, 5), (3, 0), (3, 5), (1, 2)]):
            part = image[y : y + 3, x : x + 4]
            np.testing.assert_array_equal(crops[10 * i + j], part)
            np.testing.assert_array_equal(crops[10 * i + 5 + j], part[:, ::-1])
    with pytest.raises(CaffeError, match=r"at least 7 x 4, got \[6, 9, 2\]"):
        oversample(images, (7, 4))


# Messages ----------------------------------------------------------------------------------------


def test_blob_messages() -> None:
    array, diff = draw(2, 3), draw(3, 2)
    blob = caffe.io.array_to_blobproto(array, diff)
    assert list(blob.shape.dim) == [2, 3]
    np.testing.assert_array_equal(caffe.io.blobproto_to_array(blob), array)
    np.testing.assert_array_equal(
        caffe.io.blobproto_to_array(blob, return_diff=True), diff.reshape(2, 3)
    )
    legacy = BlobProto(num=1, channels=2, height=3, width=1, data=range(6))
    assert caffe.io.blobproto_to_array(legacy).shape == (1, 2, 3, 1)
    text = caffe.io.arraylist_to_blobprotovector_str([array, diff])
    for have, want in zip(
        caffe.io.blobprotovector_str_to_arraylist(text), [array, diff], strict=True
    ):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("dtype", ["u1", "f4", "i8"])
def test_datums(dtype: str) -> None:
    array = (draw(2, 3, 4) * 10 + 30).astype(dtype)
    datum = caffe.io.array_to_datum(array, 5)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 5)
    assert bool(datum.data) == (dtype == "u1")
    back = caffe.io.datum_to_array(datum)
    assert back.dtype == (np.uint8 if dtype == "u1" else np.float64)
    np.testing.assert_array_equal(back, array)
    assert not caffe.io.array_to_datum(array).HasField("label")


def test_wrong_datums() -> None:
    with pytest.raises(CaffeError, match=r"\(channels, height, width\), got \[2, 3\]"):
        caffe.io.array_to_datum(draw(2, 3))
    with pytest.raises(CaffeError, match=r"shape \[1, 2, 3\] holds 5 values"):
        caffe.io.datum_to_array(Datum(channels=1, height=2, width=3, data=b"12345"))
    with pytest.raises(CaffeError, match="holds an encoded image"):
        caffe.io.datum_to_array(Datum(channels=1, height=1, width=1, data=b"1", encoded=True))
