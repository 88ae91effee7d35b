"""caffe.Net: constructors, names, passes, weights."""

from __future__ import annotations

import logging
from pathlib import Path

import caffe
import numpy as np
import pytest

from caffe_ssd.errors import CaffeError
from tests.pycaffe.tiny import CONV, REGRESSION, make_net, write_net

RULES = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
layer { name: "a" type: "Power" bottom: "x" top: "a" include { stage: "deploy" } }
layer { name: "b" type: "Power" bottom: "x" top: "b" include { min_level: 2 } }
layer { name: "c" type: "Power" bottom: "x" top: "c" include { phase: TRAIN } }
"""


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A caffemodel of the regression net, its weights 0..5."""
    net = make_net(tmp_path)
    net.params["fc"][0].data[...] = np.arange(6).reshape(2, 3)
    net.save(str(tmp_path / "w.caffemodel"))
    return str(tmp_path / "w.caffemodel")


# Constructors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["keyword", "old", "new", "positional"])
def test_every_form_of_the_constructor_loads_weights(
    form: str, tmp_path: Path, weights: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_net(tmp_path)
    net = {
        "keyword": lambda: caffe.Net(network_file=path, phase=caffe.TEST, weights=weights),
        "old": lambda: caffe.Net(path, weights, caffe.TEST),
        "new": lambda: caffe.Net(path, caffe.TEST, weights),
        "positional": lambda: caffe.Net(path, caffe.TEST, 0, None, weights),
    }[form]()
    assert net.params["fc"][0].data.ravel().tolist() == list(range(6))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_phase_level_and_stages_choose_layers(tmp_path: Path) -> None:
    path = write_net(tmp_path, RULES)
    assert caffe.Net(path, caffe.TEST)._layer_names == ["x"]
    assert caffe.Net(path, caffe.TRAIN)._layer_names == ["x", "c"]
    assert caffe.Net(path, caffe.TEST, level=2)._layer_names == ["x", "b"]
    assert caffe.Net(path, caffe.TEST, stages=["deploy"])._layer_names == ["x", "a"]
    with pytest.raises(TypeError, match=r"needs a phase: caffe\.TRAIN or caffe\.TEST"):
        caffe.Net(path)


def test_unreadable_file() -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file no_such\.prototxt"):
        caffe.Net("no_such.prototxt", caffe.TEST)


# Names -------------------------------------------------------------------------------------------


def test_names(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    assert net.name == "tiny"
    assert net.inputs == ["x", "y"]
    assert net.outputs == ["loss"]
    assert list(net.blobs) == net._blob_names == ["x", "y", "fc", "loss"]
    assert net._layer_names == ["x", "y", "fc", "loss"]
    assert [layer.type for layer in net.layers] == [
        *("Input", "Input", "InnerProduct", "EuclideanLoss")
    ]
    assert [len(layer.blobs) for layer in net.layers] == [0, 0, 2, 0]
    assert list(net.params) == ["fc"]
    assert [blob.shape for blob in net.params["fc"]] == [[2, 3], [2]]
    assert net.top_names["fc"] == ["fc"]
    assert net.bottom_names["loss"] == ["fc", "y"]
    assert net._inputs == [0, 1]
    assert net._outputs == [3]
    assert net._bottom_ids(3) == [2, 1]
    assert net._top_ids(3) == [3]
    assert net.layer_dict["fc"].type == "InnerProduct"
    assert dict(net.blob_loss_weights) == {"x": 0, "y": 0, "fc": 0, "loss": 1}


def test_module_names() -> None:
    for name in caffe.__all__:
        assert getattr(caffe, name) is not None
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    types = caffe.layer_type_list()
    assert types[:5] == ["AbsVal", "Accuracy", "AnnotatedData", "ArgMax", "Axpy"]
    assert types == sorted(types)


# Forward -----------------------------------------------------------------------------------------


def test_forward_returns_live_outputs_and_the_blobs_asked_for(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    x, y = np.ones((4, 3)), np.zeros((4, 2))
    found = net.forward(blobs=["fc"], x=x, y=y)
    assert set(found) == {"loss", "fc"}
    assert np.shares_memory(found["fc"], net.blobs["fc"].data)
    expected = net.params["fc"][0].data.sum(1)
    np.testing.assert_allclose(found["fc"], np.tile(expected, (4, 1)), rtol=1e-5)
    np.testing.assert_allclose(found["loss"], (found["fc"] ** 2).sum() / 8, rtol=1e-5)


def test_forward_assigns_with_broadcasting(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    net.forward(x=np.full((4, 1), 2), y=np.ones((4, 2)))
    assert (net.blobs["x"].data == 2).all()


def test_forward_in_parts(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.blobs["data"].data[...] = 1
    assert list(net.forward(end="conv")) == ["conv"]
    assert not net.blobs["prob"].data.any()
    net.blobs["pool"].data[...] = 3
    found = net.forward(start="score")
    weight = net.params["score"][0].data
    np.testing.assert_allclose(net.blobs["score"].data[0], 3 * weight.sum(1), rtol=1e-5)
    np.testing.assert_allclose(found["prob"].sum(1), 1, rtol=1e-5)
    with pytest.raises(KeyError, match="relu"):
        net.forward(end="relu")  # the layer's top is called conv
    with pytest.raises(CaffeError, match="the net has no layer named 'nowhere'"):
        net.forward(start="nowhere")


def test_forward_arguments_are_checked(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    with pytest.raises(Exception, match=r"Input blob arguments do not match net inputs\."):
        net.forward(x=np.ones((4, 3)))
    with pytest.raises(Exception, match="Input is not batch sized"):
        net.forward(x=np.ones((5, 3)), y=np.ones((4, 2)))


def test_layers_run_on_what_a_script_wrote_between_them(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.forward(end="conv")
    net.blobs["conv"].data[...] = -1
    net.forward(start="relu", end="pool")
    assert (net.blobs["pool"].data == 0).all()


# Backward ----------------------------------------------------------------------------------------


def test_backward_from_given_diffs(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 8, 6))
    net.forward()
    found = net.backward(diffs=["score"], prob=np.eye(2, 5))
    assert set(found) == {"data", "score"}
    prob = net.blobs["prob"].data
    for i in range(2):
        np.testing.assert_allclose(
            found["score"][i], prob[i, i] * (np.eye(5)[i] - prob[i]), rtol=1e-4, atol=1e-7
        )
    assert np.abs(found["data"]).sum() > 0


def test_backward_in_parts(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.forward()
    net.blobs["score"].diff[...] = 1
    assert list(net.backward(start="score", end="pool")) == ["pool"]
    assert net.blobs["conv"].diff.any()
    assert not net.blobs["data"].diff.any()
    net.backward(start="relu")
    assert net.blobs["data"].diff.any() == bool((net.blobs["conv"].data > 0).any())


def test_backward_arguments_are_checked(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.forward()
    with pytest.raises(Exception, match=r"Top diff arguments do not match net outputs\."):
        net.backward(score=np.zeros((2, 5)))
    with pytest.raises(Exception, match="Diff is not batch sized"):
        net.backward(prob=np.zeros((3, 5)))


def test_overwritten_loss_weight_scales_loss_and_gradient(tmp_path: Path) -> None:
    net = make_net(tmp_path, REGRESSION, caffe.TRAIN)
    net.blobs["x"].data[...] = 1
    net.forward()
    net.backward()
    once = net.params["fc"][0].diff.copy()
    net.clear_param_diffs()
    net.blobs["loss"].diff[...] = 3
    net.forward()
    net.backward()
    np.testing.assert_allclose(net.params["fc"][0].diff, 3 * once, rtol=1e-5)


# Batches -----------------------------------------------------------------------------------------


def test_forward_all_pads_the_last_batch(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    data = np.random.default_rng(1).normal(size=(5, 3, 8, 6)).astype(np.float32)
    found = net.forward_all(["pool"], data=data)
    assert np.shape(found["prob"]) == (5, 5)
    assert not np.shares_memory(found["prob"], net.blobs["prob"].data)
    for start in (0, 2):
        one = net.forward(["pool"], data=data[start : start + 2])
        np.testing.assert_allclose(found["pool"][start : start + 2], one["pool"], rtol=1e-5)


def test_forward_backward_all(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    data = np.random.default_rng(2).normal(size=(5, 3, 8, 6)).astype(np.float32)
    outputs, diffs = net.forward_backward_all(["pool"], ["pool"], data=data, prob=np.eye(5))
    assert np.shape(outputs["prob"]) == (5, 5)
    assert np.shape(diffs["data"]) == data.shape
    assert np.shape(diffs["pool"]) == (5, 4, 1, 1)
    np.testing.assert_allclose(np.sum(outputs["prob"], 1), 1, rtol=1e-5)


def test_reshape_propagates_without_computing(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    net.blobs["data"].reshape(1, 3, 12, 9)
    net.reshape()
    assert net.blobs["conv"].shape == [1, 4, 10, 7]
    assert net.blobs["prob"].shape == [1, 5]
    assert not net.blobs["conv"].data.any()


# Weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5"])
def test_save_and_load(suffix: str, tmp_path: Path) -> None:
    net = make_net(tmp_path)
    path = str(tmp_path / f"saved.{suffix}")
    net.params["fc"][1].data[...] = [5, -3]
    (net.save_hdf5 if suffix.endswith("h5") else net.save)(path)
    other = make_net(tmp_path)
    array = other.params["fc"][1].data
    other.copy_from(path)
    assert array.tolist() == [5, -3], "the array fetched before sees the loaded values"
    if suffix.endswith("h5"):
        again = make_net(tmp_path)
        again.load_hdf5(path)
        assert again.params["fc"][1].data.tolist() == [5, -3]


def test_share_with(tmp_path: Path) -> None:
    net, other = make_net(tmp_path), make_net(tmp_path)
    net.share_with(other)
    other.params["fc"][0].data[...] = 2
    assert (net.params["fc"][0].data == 2).all()
    net.blobs["x"].data[...] = 1
    net.forward()
    assert (net.blobs["fc"].data == 6).all()


def test_input_arrays_are_used_in_place(tmp_path: Path) -> None:
    text = """
    layer { name: "d" type: "MemoryData" top: "data" top: "label"
      memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }
    """
    net = make_net(tmp_path, text)
    data = np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
    net.set_input_arrays(data, np.arange(4, dtype=np.float32))
    net.forward()
    data[2] = 50
    net.forward()
    assert net.blobs["data"].data[0].tolist() == [[[50, 50, 50]]]
    assert net.blobs["label"].data.tolist() == [2, 3]
    with pytest.raises(CaffeError, match="only be called if the first layer is MemoryData"):
        make_net(tmp_path).set_input_arrays(data, data)


def test_arrays_reach_the_device_before_weights_are_loaded(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU an array written later than the load would undo it."""
    net = make_net(tmp_path)
    seen = []
    monkeypatch.setattr(
        net, "flush_parameters", lambda: seen.append(net.params["fc"][0].data.ravel().tolist())
    )
    before = net.params["fc"][0].data.ravel().tolist()
    net.copy_from(weights)
    assert seen == [before]
    assert net.params["fc"][0].data.ravel().tolist() == list(range(6))
