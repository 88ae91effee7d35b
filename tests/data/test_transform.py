"""The chain as a whole: mirroring, crops, means, raw records, and that seeds decide everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.samples import Sample, parse_detection
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.blobs import array_to_blob
from caffe_ssd.proto.caffe_pb2 import AnnotatedDataParameter, Datum, TransformationParameter
from tests.data.databases import annotated, datum, picture

BOX = (2, 0, 0.25, 0.5, 0.5, 0.75, 1)
FULL = """
mirror: true mean_value: 104 mean_value: 117 mean_value: 123
resize_param { height: 24 width: 32 interp_mode: LINEAR interp_mode: AREA interp_mode: CUBIC }
emit_constraint { }
distort_param { brightness_prob: 1 brightness_delta: 32 hue_prob: .5 hue_delta: 18
                saturation_prob: .5 saturation_lower: .5 saturation_upper: 1.5 }
expand_param { prob: .5 max_expand_ratio: 3 }
"""
SAMPLER = "batch_sampler { sampler { min_scale: .3 } max_sample: 1 }"


def transform(text="", samplers="", *, is_train=False, **options):
    batch_samplers = text_format.Parse(samplers, AnnotatedDataParameter()).batch_sampler
    param = text_format.Parse(text, TransformationParameter())
    return Transform.from_param(param, is_train=is_train, batch_samplers=batch_samplers, **options)


def sample(image=None, rows=(BOX,), **options):
    record = datum(picture() if image is None else image, **options)
    return parse_detection(annotated(record, rows).SerializeToString())


def planes(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)


def test_nothing_asked_for_is_the_image():
    blob, found = transform()(sample(), Draws(1, 1))
    assert blob.dtype == np.float32
    np.testing.assert_array_equal(blob, planes(picture()))
    np.testing.assert_array_equal(found.rows(0), np.float32([[0, *BOX]]))


def test_mirror_flips_pixels_and_boxes_half_of_the_time():
    plain, boxes = transform()(sample(), Draws(1, 1))
    mirroring = transform("mirror: true")
    mirrored = 0
    for n in range(200):
        blob, found = mirroring(sample(), Draws(1, n))
        if np.array_equal(blob, plain):
            np.testing.assert_array_equal(found.boxes, boxes.boxes)
        else:
            mirrored += 1
            np.testing.assert_array_equal(blob, plain[:, :, ::-1])
            np.testing.assert_allclose(found.boxes, [[0.5, 0.5, 0.75, 0.75]])
    assert abs(mirrored - 100) < 4 * np.sqrt(50)


def test_the_crop_is_random_in_training_only():
    image, text = picture(), "crop_h: 12 crop_w: 25"
    centre, found = transform(text)(sample(), Draws(1, 1))
    np.testing.assert_array_equal(centre, planes(image[9:21, 7:32]))
    np.testing.assert_allclose(found.boxes, [[3 / 25, 6 / 12, 13 / 25, 1]], atol=1e-6)
    windows = np.lib.stride_tricks.sliding_window_view(planes(image), (12, 25), axis=(1, 2))
    seen = set()
    for n in range(60):
        blob, _ = transform(text, is_train=True)(sample(), Draws(1, n))
        hits = np.argwhere((windows == blob[:, None, None]).all(axis=(0, 3, 4)))
        assert len(hits) == 1
        seen.add(tuple(hits[0]))
    assert len(seen) > 40
    assert {y for y, _ in seen} >= {0, 18}


@pytest.mark.parametrize("options", [{}, {"recompress": False}])
def test_a_seed_decides_everything(options):
    full = transform(FULL, SAMPLER, is_train=True, **options)
    record = sample()
    before = record.datum.SerializeToString(), record.annotations.boxes.copy()
    blobs = [full(record, Draws(9, n))[0] for n in (1, 2, 1)]
    np.testing.assert_array_equal(blobs[0], blobs[2])
    assert not np.array_equal(blobs[0], blobs[1])
    assert record.datum.SerializeToString() == before[0]
    np.testing.assert_array_equal(record.annotations.boxes, before[1])


def test_without_round_trips_the_result_differs_by_noise():
    for n in range(10):
        with_jpeg, found = transform(FULL, SAMPLER, is_train=True)(sample(), Draws(9, n))
        direct, same = transform(FULL, SAMPLER, is_train=True, recompress=False)(
            sample(), Draws(9, n)
        )
        np.testing.assert_array_equal(found.rows(0), same.rows(0))
        assert np.abs(with_jpeg - direct).mean() < 8


def test_a_mean_file_belongs_to_the_uncropped_image(tmp_path):
    mean = np.random.default_rng(0).uniform(0, 255, (1, 3, 30, 40)).astype(np.float32)
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(array_to_blob(mean).SerializeToString())
    whole = planes(picture()) - mean[0]
    cropping = transform(f'mean_file: "{path}" crop_size: 20 mirror: true scale: .5')
    expected = whole[:, 5:25, 10:30] * np.float32(0.5)
    for n in range(8):
        blob, _ = cropping(sample(), Draws(1, n))
        assert np.array_equal(blob, expected) or np.array_equal(blob, expected[:, :, ::-1])
    subtracting = transform(f'mean_file: "{path}"')
    with pytest.raises(DataError, match=r"comes out 9 x 8 before the crop, but .* is 30 x 40"):
        subtracting(sample(picture(9, 8)), Draws(1, 1))


@pytest.mark.parametrize("scale", [1, 0.017, 1 / 255, 3])
@pytest.mark.parametrize("means", [(), (127.5,), (104, 117, 123), (103.94, 116.78, 1e-3)])
def test_bytes_are_finished_alike_everywhere(means, scale):
    """Every level of every channel, by NumPy and PyTorch, with the bits of the plain formula."""
    text = " ".join(f"mean_value: {mean}" for mean in means)
    made = transform(f"{text} scale: {scale}")
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels, levels[::-1], np.roll(levels, 77)]).reshape(3, 16, 16)
    mean = np.float32(means or [0]).reshape(-1, 1, 1)
    expected = (pixels.astype(np.float32) - mean) * np.float32(scale)
    finished = made.finish(pixels)
    assert finished.dtype == np.float32
    np.testing.assert_array_equal(finished, expected)
    both = torch.from_numpy(np.stack([pixels, pixels]))
    finished = made.finish(both)
    assert finished.dtype == torch.float32
    np.testing.assert_array_equal(finished.numpy(), np.stack([expected, expected]))


def test_what_bytes_can_show_travels_as_bytes(tmp_path):
    full = transform(FULL, SAMPLER, is_train=True)
    for n in range(5):
        pixels, _ = full.pixels(sample(), Draws(9, n))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(full.finish(pixels), full(sample(), Draws(9, n))[0])
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(array_to_blob(np.ones((1, 3, 30, 40), np.float32)).SerializeToString())
    pixels, _ = transform(f'mean_file: "{path}"').pixels(sample(), Draws(1, 1))
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, planes(picture()) - 1)


def raw(image):
    height, width, channels = image.shape
    data = image.transpose(2, 0, 1).tobytes()
    return Sample(datum=Datum(channels=channels, height=height, width=width, data=data))


def test_raw_records():
    image = picture(8, 11)
    blob, _ = transform("mean_value: 3 crop_size: 6")(raw(image), Draws(1, 1))
    np.testing.assert_array_equal(blob, planes(image[1:7, 2:8]) - 3)
    # Not distorted, and no JPEG: the same as without.
    text = "distort_param { brightness_prob: 1 brightness_delta: 99 }"
    blob, _ = transform(text, "batch_sampler { }")(raw(image), Draws(1, 1))
    np.testing.assert_array_equal(blob, planes(image))


def test_float_records():
    values = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4)).astype(np.float32)
    record = Sample(datum=Datum(channels=2, height=3, width=4, float_data=values.ravel()))
    blob, _ = transform("scale: 4")(record, Draws(1, 1))
    np.testing.assert_array_equal(blob, values * 4)


def test_raw_record_of_the_wrong_length():
    with pytest.raises(DataError, match=r"has 5 values, but .* are 1 x 2 x 3"):
        decode_datum(Datum(channels=1, height=2, width=3, data=b"12345"))


def test_undecodable_image():
    with pytest.raises(DataError, match=r"cannot be decoded as an image \(4 bytes\)"):
        decode_datum(Datum(encoded=True, data=b"oops"))


def test_image_with_alpha_needs_force_color():
    record = sample(picture(channels=4))
    with pytest.raises(DataError, match=r"with 4 channels.*force_color"):
        transform()(record, Draws(1, 1))
    assert transform("force_color: true")(record, Draws(1, 1))[0].shape == (3, 30, 40)


def test_crop_larger_than_the_image():
    with pytest.raises(DataError, match="is 30 x 40 pixels when it is cropped to 31 x 31"):
        transform("crop_size: 31")(sample(), Draws(1, 1))


def test_mean_values_for_other_channels():
    with pytest.raises(DataError, match=r"has 3 channels, but transform_param.mean_value has 2"):
        transform("mean_value: 1 mean_value: 2")(sample(), Draws(1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("force_color: true force_gray: true", "force_color or force_gray, not both"),
        ('mean_file: "m" mean_value: 1', "mean_file or mean_value, not both"),
        ('mean_file: "no/such"', r"transform_param\.mean_file: .*no/such"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(LayerParamError, match=message):
        transform(text)


def test_output_shape():
    assert transform().output_shape(sample()) == (3, 30, 40)
    assert transform("force_gray: true crop_size: 7").output_shape(sample()) == (1, 7, 7)
    text = "resize_param { height: 20 width: 30 resize_mode: FIT_SMALL_SIZE }"
    assert transform(text).output_shape(sample()) == (3, 22, 30)
