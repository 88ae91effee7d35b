"""AnnotatedData and Data against the recorded outputs of the reference, and what they refuse."""

from __future__ import annotations

import logging
from operator import itemgetter

import numpy as np
import pytest
import torch

from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from tests.data.databases import (
    annotated,
    data_layer,
    datum,
    detection_layer,
    picture,
    write_lmdb,
    write_small_database,
)
from tests.data.drawn import drawn_database
from tests.data.layer_cases import (
    BY_NAME,
    CASES,
    build,
    check_label,
    check_photographs,
    check_pixels,
    pixels,
)
from tests.recorded.make_drawn import EVERY, IMAGES
from tests.support.golden import GOLDEN, SHARED_GOLDEN, shared_cases

FIXED = [case for case in CASES if "mirrored" not in case]
name_of = itemgetter("name")


@pytest.fixture(scope="module")
def small_database(tmp_path_factory):
    return write_small_database(tmp_path_factory.mktemp("small") / "lmdb")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The recorded databases with drawn pictures."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in {case["db"] for case in CASES}:
        drawn_database(folder, name)
    return folder


@pytest.mark.parametrize("case", FIXED, ids=name_of)
def test_drawn_pictures(case, drawn):
    """Labels are the reference's; pixels were recorded when those of photographs were, too."""
    layer, labels = build(case, drawn), np.load(GOLDEN / f"data/layer/{case['name']}.npz")
    images = np.load(GOLDEN / f"drawn/{case['name']}.npz")
    for i, output in enumerate(case["outputs"]):
        data, label = (top.numpy() for top in layer())
        assert list(data.shape) == output["data_shape"]
        check_label(label, labels[f"label_{i}"])
        some = pixels(case, data)[:IMAGES, :, ::EVERY, ::EVERY]
        check_pixels(case, some, images[f"data_{i}"])


@pytest.mark.parametrize("case", shared_cases(FIXED), ids=name_of)
def test_photographs(case):
    check_photographs(case, SHARED_GOLDEN)


def test_mirror_images(drawn):
    """Which images are mirrored is random; each is the plain one or its mirror image."""
    plain, plain_label = (top.numpy() for top in build(BY_NAME["train_plain"], drawn)())
    layer, counts = build(BY_NAME["train_mirror"], drawn), [0, 0]
    for _ in range(3):
        data, label = (top.numpy() for top in layer())
        for n in range(len(data)):
            rows, expected = (t[0, 0][t[0, 0, :, 0] == n] for t in (label, plain_label))
            mirrored = not np.array_equal(data[n], plain[n])
            counts[mirrored] += 1
            if mirrored:
                np.testing.assert_array_equal(data[n], plain[n, :, :, ::-1])
                expected = expected.copy()
                expected[:, [3, 5]] = 1 - expected[:, [5, 3]]
            np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert min(counts) > 5


def test_shapes_before_the_first_batch(small_database):
    layer = detection_layer(small_database, "transform_param { crop_size: 20 }", batch_size=3)
    assert layer.top_shapes() == ((3, 3, 20, 20), (1, 1, 1, 8))


def test_a_single_top(small_database):
    layer = detection_layer(small_database, tops=1, batch_size=2)
    assert layer.top_shapes() == ((2, 3, 30, 40),)
    assert isinstance(layer(), torch.Tensor)


def test_class_labels(tmp_path):
    records = [AnnotatedDatum(datum=datum(picture(), label=n)) for n in (5, 0, 7)]
    layer = detection_layer(write_lmdb(tmp_path / "db", records), batch_size=3)
    assert layer.top_shapes()[1] == (3,)
    assert layer()[1].tolist() == [5, 0, 7]


def test_class_labels_may_be_absent_without_a_label_top(tmp_path):
    records = [AnnotatedDatum(datum=datum(picture(), label=None))]
    source = write_lmdb(tmp_path / "db", records)
    assert detection_layer(source, tops=1)().shape == (4, 3, 30, 40)
    with pytest.raises(DataError, match=r"record '.*' has no datum\.label"):
        detection_layer(source)()


def test_anno_type_asks_for_typed_records(tmp_path):
    source = write_lmdb(tmp_path / "db", [AnnotatedDatum(datum=datum(picture()))])
    with pytest.raises(DataError, match=r"record '.*' has no type, but the layer reads boxes"):
        detection_layer(source, "annotated_data_param { anno_type: BBOX }")


def test_a_later_record_without_type(tmp_path):
    records = [annotated(datum(picture())), AnnotatedDatum(datum=datum(picture()))]
    with pytest.raises(DataError, match=r"record '00000001_1\.png' has no type"):
        detection_layer(write_lmdb(tmp_path / "db", records))()


def test_images_of_several_sizes(tmp_path):
    records = [annotated(datum(picture())), annotated(datum(picture(20, 25)))]
    message = r"comes out as 3 x 20 x 25 .* but the first image of its batch as 3 x 30 x 40"
    with pytest.raises(DataError, match=message):
        detection_layer(write_lmdb(tmp_path / "db", records))()


def test_fit_small_size_takes_one_image(small_database):
    settings = "transform_param { resize_param { height: 9 width: 9 resize_mode: FIT_SMALL_SIZE } }"
    with pytest.raises(LayerParamError, match=r"layer 'data' .*batch_size must be 1, got 4"):
        detection_layer(small_database, settings)
    assert detection_layer(small_database, settings, batch_size=1)()[0].shape == (1, 3, 9, 12)


def test_batch_size_is_needed(small_database):
    with pytest.raises(LayerParamError, match=r"data_param\.batch_size must be > 0"):
        detection_layer(small_database, batch_size=0)


def test_missing_database():
    with pytest.raises(
        DataError, match=r"'/no/such/lmdb' does not exist; convert_annoset makes it"
    ):
        detection_layer("/no/such/lmdb")


def test_wrong_settings_name_the_layer(small_database):
    settings = "transform_param { expand_param { } }"
    with pytest.raises(LayerParamError, match=r"layer 'data' \(AnnotatedData\): expand_param"):
        detection_layer(small_database, settings)


def test_raw_records_are_not_distorted(tmp_path, caplog):
    image = picture()
    raw = datum(image)
    raw.encoded, raw.data = False, image.transpose(2, 0, 1).tobytes()
    source = write_lmdb(tmp_path / "db", [annotated(raw)])
    distort = "transform_param { distort_param { brightness_prob: 1 brightness_delta: 50 } }"
    with caplog.at_level(logging.WARNING):
        data, _ = detection_layer(source, distort, batch_size=1)()
    assert "images that are not encoded are not distorted" in caplog.text
    np.testing.assert_array_equal(data[0].numpy().transpose(1, 2, 0), image)


def test_skipping_the_jpeg_round_trip(tmp_path):
    """With it even the empty sampler of test nets changes the pixels a little."""
    source = write_lmdb(tmp_path / "db", [annotated(datum(picture()))])
    settings = "annotated_data_param { batch_sampler { } }"
    plain = detection_layer(source, batch_size=1)()[0]
    direct = detection_layer(source, settings, batch_size=1, jpeg_roundtrip=False)()[0]
    assert torch.equal(direct, plain)
    recompressed = detection_layer(source, settings, batch_size=1)()[0]
    assert 0 < (recompressed - plain).abs().mean() < 8


DATA = """name: "d" type: "Data" top: "data" top: "label" transform_param { %s }
data_param { source: "%s" batch_size: 2 backend: LMDB }"""


def test_data_layer(tmp_path):
    images = [picture(seed=n) for n in range(3)]
    records = [datum(image, label=n * n) for n, image in enumerate(images)]
    layer = data_layer(DATA % ("crop_size: 20 scale: .5", write_lmdb(tmp_path / "db", records)))
    assert layer.top_shapes() == ((2, 3, 20, 20), (2,))
    batches = [layer() for _ in range(2)]
    assert [label.tolist() for _, label in batches] == [[0, 1], [4, 0]]
    expected = np.stack(images[:2]).transpose(0, 3, 1, 2)[:, :, 5:25, 10:30] * np.float32(0.5)
    np.testing.assert_array_equal(batches[0][0], expected)


def test_data_layer_refuses_annotated_records(small_database):
    with pytest.raises(DataError, match=r"has no image.*of type AnnotatedData"):
        data_layer(DATA % ("", small_database))


def test_annotated_data_refuses_plain_records(tmp_path):
    with pytest.raises(DataError, match=r"record '00000000_0\.png' is .*AnnotatedDatum"):
        detection_layer(write_lmdb(tmp_path / "db", [datum(picture())]))
