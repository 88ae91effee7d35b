"""The same records at other sizes."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.data.sizes import at_sizes
from caffe_ssd.errors import UsageError
from tests.data.databases import detection_layer

SIZES = ((20, 28), (36, 40))


def layer(source, height=24, width=32, *, mode="WARP", more="", top=""):
    resize = f"resize_param {{ height: {height} width: {width} resize_mode: {mode} {more} }}"
    return detection_layer(
        source, f"transform_param {{ mean_value: 104 mirror: true {resize} {top} }}"
    )


def test_each_size_is_what_a_layer_of_that_size_reads(small_database):
    reader = at_sizes(layer(small_database).loader.reader, SIZES)
    for batch in range(2):
        tops = reader.finish(reader.read(batch))
        assert len(tops) == 2
        for top, size in zip(tops, SIZES, strict=True):
            assert top.shape == (4, 3, *size)
            alone = layer(small_database, *size).loader.reader
            assert torch.equal(top, alone.finish(alone.read(batch))[0])


def test_layers_without_other_sizes(small_database):
    plain = detection_layer(small_database)
    cropped = layer(small_database, top="crop_size: 16")
    scaled = layer(small_database, more="height_scale: 9 width_scale: 8")
    padded = layer(small_database, mode="FIT_LARGE_SIZE_AND_PAD")
    for made, sizes, message in (
        (plain, SIZES, "has no resize_param"),
        (cropped, SIZES, r"crops \(crop_size\)"),
        (scaled, SIZES, "sets height_scale and width_scale"),
        (padded, ((36, 48), (36, 60)), "scale 36x60 has another shape than the .* 24x32"),
    ):
        with pytest.raises(UsageError, match=message):
            at_sizes(made.loader.reader, sizes)
    assert len(at_sizes(padded.loader.reader, ((36, 48), (31, 41))).readers) == 2
