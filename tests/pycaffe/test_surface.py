"""Every name of pycaffe that scripts may use, by using it (spec: caffe-net.md section 13)."""

from __future__ import annotations

import logging
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch
from caffe import mode
from caffe.proto import caffe_pb2

from caffe_ssd.errors import CaffeError, UsageError
from tests.pycaffe.tiny import CONV, REGRESSION, make_net, write_net, write_solver

STAGED = """
name: "staged"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "deep" type: "Power" bottom: "x" top: "deep" include { min_level: 1 stage: "s" } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" include { phase: TRAIN } }
"""
PYTHON_LAYER = """
import caffe

class Twice(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1, 2)
        self.seen = (self.param_str, self.phase)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        assert self.seen == ("factor", caffe.TEST)
        top[0].data[...] = bottom[0].data * 2 + self.blobs[0].data.sum()

    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = top[0].diff * 2
"""
WITH_PYTHON = """
force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "twice" type: "Python" bottom: "x" top: "y"
  python_param { module: "surface_layers" layer: "Twice" param_str: "factor" } }
"""


@pytest.fixture(autouse=True)
def _restore_mode() -> object:
    yield
    caffe.set_mode_cpu()
    caffe.set_device(0)


@pytest.fixture
def staged(tmp_path: Path) -> str:
    return write_net(tmp_path, STAGED)


# Construction ------------------------------------------------------------------------------------


def test_constructor_forms(staged: str, tmp_path: Path) -> None:
    first = caffe.Net(staged, caffe.TEST)
    first.params["fc"][0].data[...] = 7
    weights = str(tmp_path / "w.caffemodel")
    first.save(weights)
    made = [
        caffe.Net(staged, caffe.TEST, 1, ["s"], weights),
        caffe.Net(staged, caffe.TEST, 1, ["s"], weights=weights),
        caffe.Net(staged, phase=caffe.TEST, level=1, stages=["s"], weights=weights),
        caffe.Net(network_file=staged, phase=caffe.TEST, level=1, stages=("s",), weights=weights),
        caffe.Net(Path(staged), caffe.TEST, level=1, stages=["s"], weights=Path(weights)),
    ]
    for net in made:
        assert "deep" in net.layer_dict
        assert (net.params["fc"][0].data == 7).all()
    for net in (caffe.Net(staged, weights, caffe.TRAIN), caffe.Net(staged, caffe.TRAIN, weights)):
        assert "drop" in net.layer_dict
        assert (net.params["fc"][0].data == 7).all()
    assert "deep" not in caffe.Net(staged, caffe.TEST, 1).layer_dict


def test_constructor_errors(staged: str) -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file .*nowhere\.prototxt"):
        caffe.Net("nowhere.prototxt", caffe.TEST)
    with pytest.raises(RuntimeError, match=r"Could not open file .*nowhere\.caffemodel"):
        caffe.Net(staged, caffe.TEST, weights="nowhere.caffemodel")
    with pytest.raises(TypeError, match="needs a phase"):
        caffe.Net(staged)
    with pytest.raises(TypeError, match="takes 2 to 5 arguments, got 6"):
        caffe.Net(staged, caffe.TEST, 0, [], None, "more")


# Net ---------------------------------------------------------------------------------------------


def test_what_a_net_tells(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    assert net.name == "conv_net"
    for mapping in (net.blobs, net.params, net.top_names, net.bottom_names, net.blob_loss_weights):
        assert isinstance(mapping, OrderedDict)
    assert list(net.blobs) == net._blob_names == ["data", "conv", "pool", "score", "prob"]
    assert [blob.count for blob in net._blobs] == [blob.count for blob in net.blobs.values()]
    assert net.blobs is net.blobs
    assert net._layer_names == ["data", "conv", "relu", "pool", "score", "prob"]
    assert [layer.type for layer in net.layers][:2] == ["Input", "Convolution"]
    assert net.layers[1].blobs[0].shape == net.params["conv"][0].shape == [4, 3, 3, 3]
    assert (net.inputs, net.outputs) == (["data"], ["prob"])
    assert (net._inputs, net._outputs) == ([0], [4])
    assert (net._bottom_ids(2), net._top_ids(2)) == ([1], [1])
    assert (net.bottom_names["pool"], net.top_names["relu"]) == (["conv"], ["conv"])
    assert set(net.blob_loss_weights.values()) == {0}


def test_running(tmp_path: Path) -> None:
    net = make_net(tmp_path, CONV)
    data = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    out = net.forward(data=data)
    assert list(out) == ["prob"]
    assert out["prob"].dtype == np.float32
    parts = net.forward(blobs=["conv"], start="pool", end="pool")
    assert list(parts) == ["pool", "conv"]
    net.blobs["prob"].diff[...] = np.eye(2, 5)
    first = {name: diff.copy() for name, diff in net.backward(diffs=["pool"]).items()}
    assert list(first) == ["data", "pool"]
    once = net.params["conv"][0].diff.copy()
    net.backward()
    np.testing.assert_allclose(net.params["conv"][0].diff, 2 * once, rtol=1e-5)
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()
    assert list(net.backward(start="score", end="pool", diffs=["score"])) == ["pool", "score"]


def test_batches_with_outputs_that_have_no_axes(tmp_path: Path) -> None:
    net = make_net(tmp_path, REGRESSION)
    assert net.blobs["loss"].shape == []
    x, y = np.ones((6, 3), np.float32), np.zeros((6, 2), np.float32)
    found = net.forward_all(["fc"], x=x, y=y)
    assert np.shape(found["fc"]) == (6, 2)
    assert np.shape(found["loss"]) == (2,)  # one value per batch
    assert found["loss"][0] == pytest.approx(2 * found["loss"][1], rel=1e-5)  # half are padding
    outputs, diffs = net.forward_backward_all(x=x, y=y)
    assert np.shape(outputs["loss"]) == (2,)
    assert np.shape(diffs["x"]) == (6, 3)


def test_weights_in_and_out(tmp_path: Path) -> None:
    net, other = make_net(tmp_path), make_net(tmp_path)
    net.params["fc"][1].data[...] = [5, -3]
    binary, hdf5 = str(tmp_path / "a.caffemodel"), str(tmp_path / "a.caffemodel.h5")
    net.save(binary)
    net.save_hdf5(hdf5)
    net.save_hdf5(hdf5, write_diff=True)
    for load in (lambda n: n.copy_from(binary), lambda n: n.copy_from(hdf5)):
        load(other)
        assert other.params["fc"][1].data.tolist() == [5, -3]
        other.params["fc"][1].data[...] = 0
    other.load_hdf5(hdf5)
    assert other.params["fc"][1].data.tolist() == [5, -3]
    message = caffe_pb2.NetParameter.FromString(Path(binary).read_bytes())
    assert not any(len(blob.diff) for layer in message.layer for blob in layer.blobs)
    third = make_net(tmp_path)
    third.share_with(net)
    net.params["fc"][1].data[0] = 9
    assert third.params["fc"][1].data[0] == 9


def test_arrays_outlive_their_net(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    array, weight = net.blobs["x"].data, net.params["fc"][0].data
    kept = weight.copy()
    del net
    array[...] = 3
    assert array.sum() == 36
    np.testing.assert_array_equal(weight, kept)


def test_memory_data_takes_arrays(tmp_path: Path) -> None:
    text = (
        'layer { name: "d" type: "MemoryData" top: "data" top: "label" '
        "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 3 } }"
    )
    net = make_net(tmp_path, text)
    net.set_input_arrays(np.ones((2, 1, 1, 3), np.float32), np.ones((2, 1, 1, 1), np.float32))
    assert net.forward()["label"].tolist() == [1, 1]
    with pytest.raises(CaffeError, match="multiple"):
        net.set_input_arrays(np.ones((3, 1, 1, 3), np.float32), np.ones(3, np.float32))


def test_debug_info_of_a_net_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    net = make_net(tmp_path, CONV + "debug_info: true")
    net.forward()
    net.backward()
    lines = [r.getMessage() for r in caplog.records if "ward]" in r.getMessage()]
    assert lines[0] == "    [Forward] Layer data, top blob data data: 0"
    assert lines[1].startswith("    [Forward] Layer conv, top blob conv data: ")
    assert lines[-3] == "    [Backward] Layer conv, bottom blob data diff: 0"
    assert lines[-1] == "    [Backward] Layer conv, param blob 1 diff: 0"
    assert not any("All net params" in line for line in lines)  # only solvers say that


# Blobs -------------------------------------------------------------------------------------------


def test_blobs(tmp_path: Path) -> None:
    blob = make_net(tmp_path, CONV).blobs["data"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 8, 6, 288)
    blob.data[...] = 2
    blob.diff[0, 1] = 5
    assert (blob.data.sum(), blob.diff.sum()) == (576, 240)
    blob.reshape(1, 3)
    assert (blob.shape, blob.height, blob.data.tolist()) == ([1, 3], 1, [[2, 2, 2]])
    blob.reshape()
    assert (blob.shape, blob.count, blob.data.shape) == ([], 1, ())
    with pytest.raises(TypeError):
        blob.reshape(num=1)


# Solvers -----------------------------------------------------------------------------------------

SOLVERS = {
    "SGD": caffe.SGDSolver,
    "Nesterov": caffe.NesterovSolver,
    "AdaGrad": caffe.AdaGradSolver,
    "RMSProp": caffe.RMSPropSolver,
    "AdaDelta": caffe.AdaDeltaSolver,
    "Adam": caffe.AdamSolver,
}


@pytest.mark.parametrize("kind", SOLVERS)
def test_solvers(kind: str, tmp_path: Path) -> None:
    momentum = "" if kind not in ("AdaGrad", "RMSProp") else "momentum: 0"
    settings = Path(write_solver(tmp_path))
    text = settings.read_text().replace("momentum: 0.9", momentum) + f' type: "{kind}"'
    settings.write_text(text + " test_iter: 2 test_interval: 4")
    solver = caffe.get_solver(str(settings))
    assert type(solver) is SOLVERS[kind]
    assert type(SOLVERS[kind](str(settings))) is SOLVERS[kind]
    called: list[str] = []
    solver.add_callback(lambda: called.append("start"), lambda: called.append("ready"))
    solver.net.blobs["x"].data[...] = 1
    solver.step(2)
    assert (solver.iter, called) == (2, ["start", "ready"] * 2)
    nets = (solver.net, *solver.test_nets)
    assert np.shares_memory(*[net.params["fc"][0].data for net in nets])
    solver.snapshot()
    other = SOLVERS[kind](str(settings))
    other.restore(str(tmp_path / "tiny_iter_2.solverstate"))
    assert other.iter == 2
    other.solve()
    assert other.iter == 6
    third = caffe.get_solver(str(settings))
    third.solve(resume_file=str(tmp_path / "tiny_iter_2.solverstate"))
    assert third.iter == 6


def test_debug_info_of_a_solver(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = Path(write_solver(tmp_path, extra="debug_info: true"))
    path.write_text(path.read_text().replace("display: 0", "display: 2"))
    caffe.SGDSolver(str(path)).step(2)
    lines = [r.getMessage().strip() for r in caplog.records if "ward]" in r.getMessage()]
    assert [line.split(",")[0] for line in lines] == [
        *("[Forward] Layer x", "[Forward] Layer y"),
        *["[Forward] Layer fc"] * 3,
        "[Forward] Layer loss",
        "[Backward] Layer loss",
        *["[Backward] Layer fc"] * 2,
        "[Backward] All net params (data",
    ]


# The module --------------------------------------------------------------------------------------


def test_modes_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mode.current_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(mode, "_is_exact", threading.Event())
    allowed: list[bool] = []
    monkeypatch.setattr(mode, "allow_tf32", allowed.append)
    caffe.set_device(1)
    assert mode.current_device() == torch.device("cpu")  # a device is not yet a mode
    caffe.set_mode_gpu()
    assert mode.current_device() == torch.device("cuda", 1)
    assert mode.current_device() == torch.device("cuda", 1)
    assert allowed == [False]  # said once
    elsewhere: list[torch.device] = []
    thread = threading.Thread(target=lambda: elsewhere.append(mode.current_device()))
    thread.start()
    thread.join()
    assert elsewhere == [torch.device("cpu")]  # modes belong to threads
    with pytest.raises(UsageError, match="no CUDA device 2: there are 2"):
        caffe.set_device(2)
    caffe.set_mode_cpu()
    assert mode.current_device() == torch.device("cpu")


def test_random_seed_repeats_fillers_and_torch(tmp_path: Path) -> None:
    weights, drawn = [], []
    path = write_net(tmp_path, REGRESSION)
    for seed in (5, 5, 6, -1):
        caffe.set_random_seed(seed)
        weights.append(caffe.Net(path, caffe.TEST).params["fc"][0].data.tolist())
        drawn.append(torch.rand(3).tolist())
    for some in (weights, drawn):
        assert some[0] == some[1] != some[2] != some[3]


def test_log(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = ("caffe_ssd", "caffe", "lmdb_tools")
    before = [(n, n.handlers, n.level, n.propagate) for n in map(logging.getLogger, names)]
    try:
        caffe.init_log()
        caffe.log("hello")
        make_net(tmp_path)
        caffe.init_log(1)
        caffe.log("quiet")
        with pytest.raises(ValueError, match="level must be 0 to 3, got 4"):
            caffe.init_log(4)
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
    shown = capsys.readouterr().err
    assert shown.splitlines()[0].endswith("] hello")
    assert "] Creating layer fc" in shown
    assert "quiet" not in shown


def test_python_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "surface_layers.py").write_text(PYTHON_LAYER)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = make_net(tmp_path, WITH_PYTHON)
    net.params["twice"][0].data[...] = 0.5
    assert net.forward(x=np.ones((2, 3)))["y"].tolist() == [[3, 3, 3]] * 2
    assert net.backward(y=np.ones((2, 3)))["x"].tolist() == [[2, 2, 2]] * 2
    sys.modules.pop("surface_layers", None)


def test_the_rest_of_the_module(tmp_path: Path) -> None:
    types = caffe.layer_type_list()
    assert types == sorted(types)
    assert {"AnnotatedData", "MultiBoxLoss", "Python"} < set(types)
    assert caffe.__version__.startswith("1.0.0")
    assert (caffe.TRAIN, caffe.TEST) == (0, 1)
    spec = caffe.NetSpec()
    spec.data = caffe.layers.Input(input_param={"shape": {"dim": [1, 2]}})
    spec.relu = caffe.layers.Pooling(spec.data, pool=caffe.params.Pooling.MAX, kernel_size=1)
    assert caffe.to_proto(spec.relu).layer[1].pooling_param.pool == caffe.params.Pooling.MAX
    for name in (
        *("caffe.net_spec", "caffe.coord_map", "caffe.draw", "caffe.io", "caffe.classifier"),
        *("caffe.detector", "caffe.pycaffe", "caffe.model_libs", "caffe.proto.caffe_pb2"),
    ):
        __import__(name)
    classifier = caffe.Classifier(write_net(tmp_path, CONV), _saved(tmp_path))
    assert classifier.predict([np.ones((9, 7, 3), np.float32)], oversample=False).shape == (1, 5)
    assert issubclass(caffe.Detector, caffe.Net)


def _saved(folder: Path) -> str:
    path = str(folder / "saved.caffemodel")
    make_net(folder, CONV).save(path)
    return path
