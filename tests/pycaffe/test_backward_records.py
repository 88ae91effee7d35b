"""Backward passes read what the original's layers read: some blobs as they are by then."""

from __future__ import annotations

from pathlib import Path

import caffe
import numpy as np
import pytest

from caffe_ssd.errors import UsageError

X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


def make(folder: Path, text: str, first: str = X, phase: int = caffe.TRAIN) -> caffe.Net:
    path = folder / "net.prototxt"
    path.write_text(f"force_backward: true {first} {text}")
    return caffe.Net(str(path), phase)


def layer(kind: str, settings: str = "", bottoms: str = "x") -> str:
    names = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f'layer {{ name: "y" type: "{kind}" {names} top: "y" {settings} }}'


def test_backward_without_forward_reads_the_blobs_as_they_are(tmp_path: Path) -> None:
    net = make(
        tmp_path,
        layer("InnerProduct", "inner_product_param { num_output: 4 weight_filler { value: 2 } }"),
    )
    net.blobs["x"].data[...] = 3
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert (net.blobs["x"].diff == 8).all()
    assert (net.params["y"][0].diff == 6).all()
    assert (net.blobs["y"].data == 0).all()  # nothing ran forward


def test_statistics_are_not_counted_by_a_backward_without_forward(tmp_path: Path) -> None:
    net = make(tmp_path, layer("BatchNorm"))
    net.blobs["x"].data[...] = [[1, 2, 3], [4, 5, 7]]
    net.backward()
    assert net.params["y"][2].data == 0


def test_a_bottom_written_after_forward_counts(tmp_path: Path) -> None:
    net = make(
        tmp_path,
        layer("InnerProduct", "inner_product_param { num_output: 4 weight_filler { value: 2 } }"),
    )
    net.blobs["x"].data[...] = 1
    net.forward()
    net.blobs["x"].data[...] = 5
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert (net.params["y"][0].diff == 10).all()


@pytest.mark.parametrize("held", [False, True])
def test_relu_looks_at_its_bottom_again(held: bool, tmp_path: Path) -> None:
    net = make(tmp_path, layer("ReLU"))
    array = net.blobs["x"].data
    array[...] = 1
    net.forward()
    (array if held else net.blobs["x"].data)[0, 1] = -1
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[1, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("kind", "top", "want"),
    [("Sigmoid", 0.25, 0.1875), ("TanH", 0.5, 0.75), ("Exp", 3.0, 3.0)],
)
def test_a_top_written_after_forward_counts(
    kind: str, top: float, want: float, tmp_path: Path
) -> None:
    net = make(tmp_path, layer(kind))
    net.blobs["x"].data[...] = 0.3
    net.forward()
    net.blobs["y"].data[...] = top
    net.blobs["x"].data[...] = 9  # which these layers do not read again
    net.blobs["y"].diff[...] = 1
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, want, rtol=1e-6)


def test_softmax_reads_its_top(tmp_path: Path) -> None:
    net = make(tmp_path, layer("Softmax"))
    net.forward()
    top = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]], np.float32)
    net.blobs["y"].data[...] = top
    diff = np.array([[1, 0, 0], [0, 2, 1]], np.float32)
    net.blobs["y"].diff[...] = diff
    net.backward()
    want = (diff - (diff * top).sum(1, keepdims=True)) * top
    np.testing.assert_allclose(net.blobs["x"].diff, want, rtol=1e-6)


def test_scores_are_kept_and_labels_are_not(tmp_path: Path) -> None:
    first = (
        'layer { name: "x" type: "Input" top: "x" top: "t" '
        "input_param { shape { dim: 1 dim: 3 } shape { dim: 1 } } }"
    )
    net = make(tmp_path, layer("SoftmaxWithLoss", bottoms="x t"), first)
    net.forward()
    net.blobs["x"].data[...] = [[9, 0, 0]]
    net.blobs["t"].data[...] = 2
    net.backward()
    np.testing.assert_allclose(net.blobs["x"].diff, [[1 / 3, 1 / 3, -2 / 3]], rtol=1e-6)


def test_the_maxima_of_pooling_are_kept(tmp_path: Path) -> None:
    first = X.replace("dim: 2 dim: 3", "dim: 1 dim: 1 dim: 2 dim: 2")
    net = make(tmp_path, layer("Pooling", "pooling_param { kernel_size: 2 }"), first)
    net.blobs["x"].data[0, 0] = [[1, 2], [3, 4]]
    net.forward()
    net.blobs["x"].data[0, 0] = [[9, 2], [3, 4]]
    net.blobs["y"].diff[...] = 1
    net.backward()
    assert net.blobs["x"].diff[0, 0].tolist() == [[0, 0], [0, 1]]


def test_constant_dummy_data_keep_what_is_written(tmp_path: Path) -> None:
    first = (
        'layer { name: "d" type: "DummyData" top: "x" top: "noise" dummy_data_param { '
        "shape { dim: 2 dim: 3 } shape { dim: 4 } data_filler { value: 7 } "
        'data_filler { type: "gaussian" } } }'
    )
    for phase in (caffe.TEST, caffe.TRAIN):
        net = make(tmp_path, layer("Power", "power_param { scale: 2 }"), first, phase)
        assert (net.blobs["x"].data == 7).all()
        net.blobs["x"].data[0] = 5
        noise = [net.forward() and net.blobs["noise"].data.copy() for _ in range(3)]
        assert net.blobs["y"].data.tolist() == [[10] * 3, [14] * 3]
        assert not np.array_equal(noise[0], noise[2])


def test_lists_of_blobs_have_the_original_s_type(tmp_path: Path) -> None:
    net = make(tmp_path, layer("InnerProduct", "inner_product_param { num_output: 4 }"))
    assert type(net.params["y"]) is caffe._caffe.BlobVec
    assert type(net.layers[1].blobs) is caffe._caffe.BlobVec
    assert caffe._caffe.BlobVec.__module__ == "caffe._caffe"


def test_several_devices_are_for_the_command() -> None:
    assert not caffe.has_nccl()
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)
    caffe.set_multiprocess(False)
    for call in (
        lambda: caffe.set_solver_count(2),
        lambda: caffe.set_solver_rank(1),
        lambda: caffe.set_multiprocess(True),
        lambda: caffe.NCCL(None, ""),
        lambda: caffe.NCCL.new_uid(),
    ):
        with pytest.raises(UsageError, match="caffe train -solver FILE -gpu 0,1"):
            call()


def test_the_timer_measures() -> None:
    timer = caffe.Timer()
    timer.start()
    timer.stop()
    assert 0 <= timer.ms < 10_000
    assert timer.us == pytest.approx(1000 * timer.ms)
