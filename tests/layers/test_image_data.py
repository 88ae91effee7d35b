"""ImageData: lists of image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_ssd.errors import CaffeError, DataError, LayerParamError
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.registry import LayerSpec, Runtime, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from caffe_ssd.random import CaffeRandom
from tests.layers.build import build

COUNT = 10

Builder = Callable[..., RecordLayer]


def picture(number: int) -> np.ndarray:
    """Image `number` of the list: 6 x 8, BGR."""
    return np.random.default_rng(number).integers(0, 255, (6, 8, 3)).astype(np.uint8)


@pytest.fixture
def make(tmp_path: Path) -> Builder:
    """Builds a layer that reads ten images, labelled with their numbers."""
    lines = []
    for i in range(COUNT):
        cv2.imwrite(str(tmp_path / f"image {i}.png"), picture(i))
        lines.append(f"image {i}.png {i}")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")

    def make(param: str = "", more: str = "", *, phase: str = "TEST", seed: int = 1) -> RecordLayer:
        text = (
            f'image_data_param {{ source: "{tmp_path}/list.txt" root_folder: "{tmp_path}/" '
            f"{param} }} {more}"
        )
        layer = build("ImageData", text, phase=phase, tops=2, seed=seed)
        assert isinstance(layer, RecordLayer)
        return layer

    return make


def labels(layer: RecordLayer, batches: int) -> list[int]:
    """The labels of the next batches."""
    return [int(n) for _ in range(batches) for n in layer()[1]]


def test_batches_run_on_across_the_end_of_the_list(make: Builder) -> None:
    layer = make("batch_size: 4")
    assert layer.top_shapes() == ((4, 3, 6, 8), (4,))
    data, label = layer()
    assert data.dtype == label.dtype == torch.float32
    for i in range(4):
        np.testing.assert_array_equal(data[i], picture(i).transpose(2, 0, 1))
    assert label.tolist() == [0, 1, 2, 3]
    assert labels(layer, 2) == [4, 5, 6, 7, 8, 9, 0, 1]


def test_defaults_are_single_colour_images(make: Builder) -> None:
    assert make().top_shapes() == ((1, 3, 6, 8), (1,))


def test_gray_and_resized(make: Builder) -> None:
    layer = make("new_height: 3 new_width: 5 is_color: false batch_size: 2")
    data, _ = layer()
    assert data.shape == (2, 1, 3, 5)
    color = make("new_height: 3 new_width: 5")()[0]
    expected = cv2.resize(picture(0), (5, 3)).transpose(2, 0, 1)
    np.testing.assert_array_equal(color[0], expected)


def test_transform(make: Builder) -> None:
    layer = make("", "transform_param { crop_h: 2 crop_w: 4 mean_value: 100 scale: 0.5 }")
    expected = (picture(0)[2:4, 2:6].transpose(2, 0, 1).astype(np.float32) - 100) / 2
    np.testing.assert_allclose(layer()[0][0], expected)


def test_shuffle_is_the_reference_s_and_goes_on_from_pass_to_pass(make: Builder) -> None:
    rng = CaffeRandom(5)
    order: list[object] = list(range(COUNT))
    shuffling = CaffeRandom(rng.word())
    expected = []
    for _ in range(3):
        shuffling.shuffle(order)
        expected += order
    layer = make("shuffle: true batch_size: 5", seed=5)
    assert labels(layer, 6) == expected
    layer.seek(3)
    assert labels(layer, 2) == expected[15:25]
    layer.seek(0)
    assert labels(layer, 1) == expected[:5]


def test_rand_skip_starts_inside_the_list(make: Builder) -> None:
    skip = CaffeRandom(5).word() % 7
    layer = make("rand_skip: 7 batch_size: 5", seed=5)
    assert labels(layer, 3) == [(skip + i) % COUNT for i in range(15)]


def test_draws_from_the_net_s_stream(make: Builder) -> None:
    """Layers built later see the same stream as in the reference."""
    source = make("batch_size: 1").loader.reader.source.path  # type: ignore[attr-defined]
    root = str(Path(source).parent) + "/"
    for shuffle, mirror, draws in ((False, False, 1), (True, False, 2), (True, True, 4)):
        param = LayerParameter(name="d", type="ImageData", top=["data", "label"])
        param.image_data_param.source, param.image_data_param.root_folder = source, root
        param.image_data_param.shuffle, param.transform_param.mirror = shuffle, mirror
        runtime = Runtime(rng=CaffeRandom(9))
        build_layer(LayerSpec(param=param, bottoms=(), runtime=runtime))
        assert runtime.rng.word() == int(CaffeRandom(9).words(draws + 1)[draws])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "lists no images"),
        ("only_a_path.png\n", r"line 'only_a_path\.png' is not `path label`"),
        ("a.png dog\n", r"line 'a\.png dog' is not `path label`"),
        ("no.png 3\n", r"'no\.png 3' names '.*no\.png', which is no file; check root_folder"),
        ("list.txt 3\n", r"names '.*list\.txt', which cannot be decoded as an image"),
    ],
)
def test_wrong_lists(text: str, match: str, make: Builder, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=match):
        make()


def test_wrong_settings(make: Builder) -> None:
    for param, match in (
        ("batch_size: 0", "batch_size must be > 0"),
        ("new_height: 3", "both new_height and new_width or none, got 3 and 0"),
    ):
        with pytest.raises(LayerParamError, match=match):
            make(param)
    with pytest.raises(LayerParamError, match="source is not set"):
        build("ImageData", "", tops=2)
    with pytest.raises(CaffeError, match=r"Could not open file no\.txt"):
        build("ImageData", 'image_data_param { source: "no.txt" }', tops=2)


def test_images_of_two_sizes_in_a_batch(make: Builder, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image 1.png"), np.zeros((4, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"'image 1\.png 1' comes out as 3 x 4 x 9"):
        make("batch_size: 2")()
