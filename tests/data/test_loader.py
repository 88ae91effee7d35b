"""Batches do not depend on who computes them, and workers come and go without a trace."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from caffe_ssd.errors import DataError
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import Datum
from tests.data.databases import (
    annotated,
    data_layer,
    datum,
    detection_layer,
    picture,
    write_lmdb,
)

AUGMENTED = """
transform_param {
  mirror: true mean_value: 104 mean_value: 117 mean_value: 123
  resize_param { height: 24 width: 32 interp_mode: LINEAR interp_mode: NEAREST }
  distort_param { brightness_prob: .5 brightness_delta: 32 random_order_prob: .5 }
  expand_param { prob: .5 max_expand_ratio: 3 }
}
annotated_data_param { batch_sampler { sampler { min_scale: .3 } max_sample: 1 } }
"""


def training_layer(source, **surroundings):
    return detection_layer(source, AUGMENTED, phase="TRAIN", **surroundings)


def read(layer, count):
    return [[top.clone() for top in layer()] for _ in range(count)]


def assert_equal(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        for top, other in zip(a, b, strict=True):
            assert torch.equal(top, other)


@pytest.fixture(scope="module")
def expected(small_database):
    """The first five batches, read one after the other."""
    reader = training_layer(small_database).loader.reader
    return [reader.finish(reader.read(batch)) for batch in range(5)]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_the_workers(small_database, expected, workers):
    layer = training_layer(small_database, data_workers=workers)
    assert_equal(read(layer, 5), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_travel_as_bytes(small_database, expected, workers):
    """A quarter of the memory, and it is the device that computes the other three."""
    layer = training_layer(small_database, data_workers=workers)
    seen = []
    layer.loader.listeners.append(lambda batch, waited_s: seen.append(batch[0]))
    for data, _ in expected[:3]:
        made = layer(RunContext(device=torch.device("cpu")))[0]
        assert made.dtype == torch.float32
        assert torch.equal(made, data)
    assert [data.dtype for data in seen] == [torch.uint8] * 3
    layer.loader.close()


def test_a_batch_of_bytes_and_floats(tmp_path):
    """Raw float records beside pictures: both come as what they are."""
    values = np.random.default_rng(0).uniform(-1, 1, (3, 30, 40)).astype(np.float32)
    raw = Datum(channels=3, height=30, width=40, float_data=values.ravel(), label=3)
    source = write_lmdb(tmp_path / "db", [datum(picture(), extension=".png"), raw])
    layer = data_layer(
        f"""name: "data" type: "Data" top: "data" transform_param {{ mean_value: 100 scale: .5 }}
        data_param {{ source: "{source}" batch_size: 2 backend: LMDB }}"""
    )
    made = layer().numpy()
    image = picture().transpose(2, 0, 1).astype(np.float32)
    for blob, pixels in zip(made, (image, values), strict=True):
        np.testing.assert_array_equal(blob, (pixels - 100) * np.float32(0.5))


@pytest.mark.parametrize("workers", [0, 2])
def test_seek_goes_on_as_if_never_stopped(small_database, expected, workers):
    layer = training_layer(small_database, data_workers=workers)
    layer.seek(3)
    assert_equal(read(layer, 2), expected[3:])
    layer.seek(1)
    assert_equal(read(layer, 3), expected[1:4])
    layer.seek(4)
    assert_equal(read(layer, 1), expected[4:])


def test_ranks_deal_the_records(small_database):
    """Seven records: together two ranks show what one shows, in turn."""
    plain = detection_layer(small_database, phase="TRAIN", batch_size=6)
    whole = torch.cat([plain()[0] for _ in range(3)])
    for rank in (0, 1):
        layer = detection_layer(
            small_database, phase="TRAIN", batch_size=3, rank=rank, world_size=2
        )
        dealt = torch.cat([layer()[0] for _ in range(3)])
        assert torch.equal(dealt, whole[rank::2])


def test_a_test_layer_reads_every_record_on_every_rank(small_database):
    one = detection_layer(small_database, batch_size=3, rank=1, world_size=2)
    assert torch.equal(one()[0], detection_layer(small_database, batch_size=3)()[0])


def test_seeds_differ_between_layers_and_ranks_draw_differently(small_database, expected):
    other = training_layer(small_database, seed=2)
    assert not torch.equal(other()[0], expected[0][0])


def test_nothing_starts_before_the_first_batch(small_database):
    before = set(threading.enumerate())
    layers = [training_layer(small_database, data_workers=n) for n in (0, 2)]
    assert set(threading.enumerate()) <= before
    assert not multiprocessing.active_children()
    assert [layer.top_shapes() for layer in layers] == [((4, 3, 24, 32), (1, 1, 1, 8))] * 2


def test_workers_that_start_early_go_on_anywhere(small_database, expected):
    layer = training_layer(small_database, data_workers=2)
    layer.start()
    started = {worker.pid for worker in multiprocessing.active_children()}
    assert len(started) == 2
    layer.start()
    layer.seek(3)
    assert_equal(read(layer, 2), expected[3:])
    assert {worker.pid for worker in multiprocessing.active_children()} == started
    layer.loader.close()
    layer.start()
    del layer
    assert not multiprocessing.active_children()


def test_workers_that_die_before_they_are_asked(small_database):
    layer = training_layer(small_database, data_workers=1)
    layer.start()
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(DataError, match=r"data worker 0 ended unexpectedly \(exit code -9\)"):
        layer()
    assert len(layer()) == 2
    layer.loader.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_end_with_the_layer(small_database, workers):
    layer = training_layer(small_database, data_workers=workers)
    layer()
    assert len(multiprocessing.active_children()) == workers
    layer.loader.close()
    assert not multiprocessing.active_children()
    layer()
    del layer
    assert not multiprocessing.active_children()


def test_workers_do_not_touch_the_global_generator(small_database):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    training_layer(small_database, data_workers=1)()
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_arrives_as_it_is_and_again(tmp_path, workers):
    good, bad = annotated(datum(picture())), datum(picture())
    bad.data = b"junk"
    source = write_lmdb(tmp_path / "db", [good, good, annotated(bad), good])
    layer = detection_layer(source, batch_size=2, data_workers=workers)
    layer()
    for _ in range(2):
        message = r"db: record '00000002_2\.png' cannot be decoded as an image \(4 bytes\)$"
        with pytest.raises(DataError, match=message):
            layer()
    layer.seek(2)
    assert layer()[0].shape == (2, 3, 30, 40)
    layer.loader.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_survive_signals_to_the_whole_job(small_database, expected, number):
    layer = training_layer(small_database, data_workers=2)
    batches = read(layer, 1)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)
    batches += read(layer, 12)  # more than were made ahead of the signal
    assert_equal(batches[:5], expected)


def test_a_program_that_closes_nothing_ends(small_database):
    program = f"""
from tests.data.test_loader import training_layer
layer = training_layer({str(small_database)!r}, data_workers=2)
layer()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_killed_worker_is_an_error(small_database):
    layer = training_layer(small_database, data_workers=1)
    layer()
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"data worker 0 ended unexpectedly \(exit code -9\)"):
        read(layer, 5)
    assert len(layer()) == 2
    layer.loader.close()


def test_a_reading_layer_can_be_copied(small_database, expected):
    layer = training_layer(small_database)
    layer()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_equal(read(twin, 2), expected[1:3])
    assert_equal(read(layer, 2), expected[1:3])


def test_labels_of_a_batch(small_database):
    label = detection_layer(small_database, batch_size=4)()[1].numpy()
    assert label.shape == (1, 1, 0 + 1 + 2 + 3, 8)
    np.testing.assert_array_equal(label[0, 0, :, 0], [1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(label[0, 0, :, 1], [1, 1, 1, 1, 1, 2])
    np.testing.assert_array_equal(label[0, 0, :, 2], [0, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(label[0, 0, 2], np.float32([2, 1, 1, 0.4, 0.1, 0.9, 0.45, 1]))
    lonely = detection_layer(small_database, batch_size=1)()[1].numpy()
    np.testing.assert_array_equal(lonely, np.full((1, 1, 1, 8), -1))
