"""MemoryData, HDF5Data and HDF5Output."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from caffe_ssd.errors import DataError, FileError, LayerError, LayerParamError, ProtoError
from caffe_ssd.layers.registry import LayerSpec, Runtime, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from caffe_ssd.random import CaffeRandom
from tests.layers.build import build, draw

MEMORY = "memory_data_param { batch_size: 2 channels: 3 height: 4 width: 5 }"


def test_memory_data_walks_its_arrays_cyclically():
    layer = build("MemoryData", MEMORY, tops=2)
    data = draw(4, 3, 4, 5).numpy()
    labels = np.arange(4, dtype=np.float32)
    with pytest.raises(LayerError, match="no data yet"):
        layer()
    layer.set_arrays(data, labels)
    assert layer.top_shapes() == ((2, 3, 4, 5), (2,))
    seen = [layer()[1].tolist() for _ in range(3)]
    assert seen == [[0, 1], [2, 3], [0, 1]]
    data[2] = 7  # used in place
    layer.seek(5)
    assert (layer()[0][0] == 7).all()
    layer.set_arrays(data, labels.reshape(4, 1, 1, 1))
    assert layer()[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (np.zeros((3, 3, 4, 5), "f"), np.zeros(3, "f"), "3 items are no multiple"),
        (np.zeros((2, 3, 5, 4), "f"), np.zeros(2, "f"), r"got \[2, 3, 5, 4\] and \[2\]"),
        (np.zeros((2, 3, 4, 5), "f"), np.zeros(3, "f"), r"and \[3\]"),
        (np.zeros((2, 3, 4, 5)), np.zeros(2, "f"), "data must be float32"),
        (np.zeros((2, 3, 4, 5), "f"), np.zeros(4, "f")[::2], "labels must be float32 and C-cont"),
    ],
)
def test_memory_data_refuses(data, labels, message):
    with pytest.raises(DataError, match=message):
        build("MemoryData", MEMORY, tops=2).set_arrays(data, labels)


@pytest.fixture
def file_list(tmp_path):
    """Two files with rows 0..2 and 3..7."""
    names = []
    for i, values in enumerate((range(3), range(3, 8))):
        names.append(str(tmp_path / f"{i}.h5"))
        with h5py.File(names[-1], "w") as file:
            file["x"] = np.array(values, dtype=np.int64)[:, None] * [1, 10]
            file["y"] = np.array(values, dtype=np.float64)
    path = tmp_path / "list.txt"
    path.write_text("\n".join(names))
    return path


def hdf5_data(path, more="", batch_size=4, tops='top: "x" top: "y"'):
    settings = f'hdf5_data_param {{ source: "{path}" batch_size: {batch_size} {more} }}'
    return build("HDF5Data", f"{tops} {settings}")


def test_hdf5_rows_run_across_files(file_list):
    layer = hdf5_data(file_list)
    assert layer.top_shapes() == ((4, 2), (4,))
    x, y = layer()
    assert x.dtype == y.dtype == torch.float32
    assert x.tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    assert [layer()[1].tolist() for _ in range(2)] == [[4, 5, 6, 7], [0, 1, 2, 3]]
    layer.seek(1)
    assert layer()[1].tolist() == [4, 5, 6, 7]


def test_hdf5_shuffle_keeps_rows_together(file_list):
    x, y = hdf5_data(file_list, "shuffle: true", batch_size=8)()
    assert sorted(y.tolist()) == list(range(8))
    assert y.tolist() != list(range(8))
    assert torch.equal(x[:, 0], y)


def test_hdf5_shuffle_differs_from_pass_to_pass_and_goes_on_after_seek(file_list):
    layer = hdf5_data(file_list, "shuffle: true")
    seen = [layer()[1].tolist() for _ in range(6)]
    passes = [seen[i] + seen[i + 1] for i in (0, 2, 4)]
    assert len({tuple(rows) for rows in passes}) == 3
    for start in (4, 1, 0):
        layer.seek(start)
        assert [layer()[1].tolist() for _ in range(2)] == seen[start : start + 2]


def test_hdf5_shuffle_draws_nothing_from_the_net_s_stream(file_list):
    param = LayerParameter(name="h", type="HDF5Data", top=["x"])
    param.hdf5_data_param.source = str(file_list)
    param.hdf5_data_param.batch_size = 1
    param.hdf5_data_param.shuffle = True
    runtime = Runtime(rng=CaffeRandom(9))
    build_layer(LayerSpec(param=param, bottoms=(), runtime=runtime))
    assert runtime.rng.word() == CaffeRandom(9).word()


def test_hdf5_batches_are_dealt_to_devices_in_training(file_list):
    def labels(phase, rank, start=0):
        param = LayerParameter(name="h", type="HDF5Data", top=["y"])
        param.phase = ("TRAIN", "TEST").index(phase)
        param.hdf5_data_param.source = str(file_list)
        param.hdf5_data_param.batch_size = 2
        runtime = Runtime(rank=rank, world_size=2)
        layer = build_layer(LayerSpec(param=param, bottoms=(), runtime=runtime))
        layer.seek(start)
        return [layer().tolist() for _ in range(3)]

    assert labels("TRAIN", 0) == [[0, 1], [4, 5], [0, 1]]
    assert labels("TRAIN", 1) == [[2, 3], [6, 7], [2, 3]]
    assert labels("TRAIN", 1, start=1) == [[6, 7], [2, 3], [6, 7]]
    assert labels("TEST", 1) == [[0, 1], [2, 3], [4, 5]]


def test_hdf5_output_is_read_back(tmp_path):
    path = tmp_path / "out.h5"
    layer = build(
        "HDF5Output", f'hdf5_output_param {{ file_name: "{path}" }}', (2, 3), (2,), tops=0
    )
    x, y = draw(2, 3), torch.arange(2.0)
    assert layer(x, y) == ()
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data"][()], x.reshape(2, 3, 1, 1))
        np.testing.assert_array_equal(file["label"][()], y.reshape(2, 1, 1, 1))
    with pytest.raises(LayerError, match="written once"):
        layer(x, y)


def test_refusals(tmp_path, file_list):
    with pytest.raises(LayerParamError, match="height must be positive, got 0"):
        build("MemoryData", MEMORY.replace("height: 4", ""), tops=2)
    with pytest.raises(FileError, match="Could not open file"):
        hdf5_data(tmp_path / "none.txt")
    with pytest.raises(DataError, match="no dataset 'z'; it has x, y"):
        hdf5_data(file_list, tops='top: "z"')
    with pytest.raises(LayerParamError, match="batch_size must be positive"):
        hdf5_data(file_list, batch_size=0)
    with pytest.raises(LayerParamError, match="transform_param does not apply"):
        hdf5_data(file_list, tops='top: "x" transform_param {}')
    (tmp_path / "bad.txt").write_text(str(tmp_path / "bad.txt"))
    with pytest.raises(ProtoError, match=r"bad\.txt: not an HDF5 file, or damaged"):
        hdf5_data(tmp_path / "bad.txt")
    with pytest.raises(LayerParamError, match="file_name is missing"):
        build("HDF5Output", "", (2, 3), (2,), tops=0)
