"""Layers of type Python, in pycaffe's nets, in the engine's net and under the command line."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch

from caffe_ssd.cli.main import main
from caffe_ssd.errors import CaffeError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetState
from caffe_ssd.proto.text import read_net
from tests.pycaffe.tiny import make_net, write_net, write_solver

MODULE = '''
import caffe
import numpy as np


class Counter(caffe.Layer):
    """Data: the number of the batch, in a shape that changes."""

    def setup(self, bottom, top):
        self.calls = 0
        self.columns = int(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(2 + self.calls % 2, self.columns)

    def forward(self, bottom, top):
        self.calls += 1
        top[0].data[...] = self.calls


class Seeker(Counter):
    """The same, which can be resumed."""

    def seek(self, batch):
        self.calls = batch


class Gain(caffe.Layer):
    """y = w x, with a learnt scalar that starts at 2."""

    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 2

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (bottom[0].data * top[0].diff).sum()
        self.asked = list(propagate_down)
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data * top[0].diff


class Clip(caffe.Layer):
    """In place: negative values become 0."""

    def reshape(self, bottom, top):
        assert bottom[0] is top[0]

    def forward(self, bottom, top):
        self.mask = bottom[0].data > 0
        top[0].data[~self.mask] = 0

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[~self.mask] = 0


class Data(caffe.Layer):
    """x and 3 x + noiseless, for a regression."""

    def setup(self, bottom, top):
        self.rng = np.random.RandomState(0)

    def reshape(self, bottom, top):
        top[0].reshape(8, 1)
        top[1].reshape(8, 1)

    def forward(self, bottom, top):
        top[0].data[...] = self.rng.normal(size=(8, 1))
        top[1].data[...] = 3 * top[0].data


class Proposals(caffe.Layer):
    """A top whose number of rows is known in forward only."""

    def reshape(self, bottom, top):
        top[0].reshape(1, 2)

    def forward(self, bottom, top):
        kept = bottom[0].data[bottom[0].data[:, 0] > 0]
        top[0].reshape(*kept.shape)
        top[0].data[...] = kept


class Broken(Gain):
    def forward(self, bottom, top):
        raise ZeroDivisionError("in forward")


class BrokenBackward(Gain):
    def backward(self, top, propagate_down, bottom):
        raise ZeroDivisionError("in backward")


class Lazy(Gain):
    def forward(self, bottom, top):
        self.blobs.add_blob(3)


class Half(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(1)


class NoLayer:
    pass
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module of layers, importable as `tiny_layers`."""
    (tmp_path / "tiny_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tiny_layers", None)


def python(layer: str, bottom: str = "x", top: str = "y", more: str = "", param: str = "") -> str:
    bottoms = f'bottom: "{bottom}"' if bottom else ""
    tops = " ".join(f'top: "{name}"' for name in top.split())
    return (
        f'layer {{ name: "{layer}" type: "Python" {bottoms} {tops} {more} python_param {{ '
        f'module: "tiny_layers" layer: "{layer}" {param} }} }}\n'
    )


INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 } } }\n'
GAIN_LOSS = (
    python("Data", bottom="", top="x y")
    + python("Gain", top="z")
    + 'layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "y" top: "loss" }'
)


def test_data_layer_changes_its_top_at_each_forward(tmp_path: Path) -> None:
    net = make_net(tmp_path, python("Counter", bottom="", param='param_str: "5"'))
    assert net.blobs["y"].shape == [2, 5]
    for call in (1, 2, 3):
        net.forward()
        assert net.blobs["y"].data.shape == (2 + (call - 1) % 2, 5)
        assert (net.blobs["y"].data == call).all()


def test_resume_seeks_where_the_class_can_and_warns_where_it_cannot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    param = 'param_str: "5"'
    text = python("Counter", "", "a", param=param) + python("Seeker", "", "b", param=param)
    engine = build_net(read_net(write_net(tmp_path, text)), NetState(phase=1))
    engine.seek(0)
    assert caplog.messages == []
    engine.seek(7)
    (message,) = caplog.messages
    assert message == (
        "layer 'Counter' (Python): class Counter has no method seek(batch), so after this resume "
        "its data start again; an uninterrupted run would be at batch 7"
    )
    blobs = engine().blobs
    assert blobs["a"].unique().tolist() == [1]
    assert blobs["b"].unique().tolist() == [8]


def test_learnt_blob_accumulates_and_is_saved(tmp_path: Path) -> None:
    net = make_net(tmp_path, INPUT + python("Gain"), caffe.TRAIN)
    assert net.params["Gain"][0].data.tolist() == [2]
    net.blobs["x"].data[...] = 1
    net.forward()
    assert (net.blobs["y"].data == 2).all()
    net.params["Gain"][0].data[0] = 10
    net.save(str(tmp_path / "w.caffemodel"))
    other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    other.copy_from(str(tmp_path / "w.caffemodel"))
    other.blobs["x"].data[...] = 3
    assert (other.forward()["y"] == 30).all()


@pytest.mark.parametrize("forced", [False, True])
def test_propagate_down_follows_the_net(forced: bool, tmp_path: Path) -> None:
    text = f"force_backward: {str(forced).lower()}\n" + INPUT
    text += python("Gain", more="loss_weight: 0.5")
    net = make_net(tmp_path, text, caffe.TRAIN)
    net.blobs["x"].data[...] = np.arange(6).reshape(3, 2)
    net.forward()
    for times in (1, 2):
        net.backward()
        assert net.params["Gain"][0].diff.tolist() == [times * 0.5 * 15]
    assert net.engine.layers[1].user.asked == [forced]
    assert (net.blobs["x"].diff == (1 if forced else 0)).all()


def test_in_place(tmp_path: Path) -> None:
    net = make_net(tmp_path, "force_backward: true\n" + INPUT + python("Clip", top="x"))
    net.blobs["x"].data[...] = [[-1, 2], [3, -4], [5, 6]]
    net.forward()
    assert net.blobs["x"].data.tolist() == [[0, 2], [3, 0], [5, 6]]
    net.blobs["x"].diff[...] = 7
    net.backward()
    assert net.blobs["x"].diff.tolist() == [[0, 7], [7, 0], [7, 7]]


def test_top_reshaped_in_forward(tmp_path: Path) -> None:
    net = make_net(tmp_path, INPUT + python("Proposals"))
    assert net.blobs["y"].shape == [1, 2]
    net.blobs["x"].data[...] = [[-1, 2], [3, -4], [5, 6]]
    assert net.forward()["y"].tolist() == [[3, -4], [5, 6]]


def test_exceptions_pass_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="in forward"):
        make_net(tmp_path, INPUT + python("Broken")).forward()
    net = make_net(tmp_path, INPUT + python("BrokenBackward", more="loss_weight: 1"), caffe.TRAIN)
    net.forward()
    with pytest.raises(ZeroDivisionError, match="in backward"):
        net.backward()
    with pytest.raises(ValueError, match="invalid literal"):
        make_net(tmp_path, python("Counter", bottom="", param='param_str: "five"'))


def test_refusals(tmp_path: Path) -> None:
    unknown = python("Gain").replace("tiny_layers", "no_such_module")
    for text, match in (
        (unknown, r"layer 'Gain' \(Python\): .*'no_such_module' is not found.*PYTHONPATH"),
        (python("Nothing"), r"'tiny_layers' has no class 'Nothing'"),
        (python("NoLayer"), r"'tiny_layers' is not derived from caffe\.Layer: class 'NoLayer'"),
        (python("Gain").replace('layer: "Gain"', ""), "must both be given"),
    ):
        with pytest.raises(CaffeError, match=match):
            make_net(tmp_path, INPUT + text)
    with pytest.raises(CaffeError, match=r"'Lazy' \(Python\): add_blob may be called in setup"):
        make_net(tmp_path, INPUT + python("Lazy")).forward()
    with pytest.raises(CaffeError, match=r"class Half does not define forward\(bottom, top\)"):
        make_net(tmp_path, INPUT + python("Half")).forward()


def test_module_that_fails_to_import_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "tiny_layers.py").write_text("import a_missing_package\n")
    with pytest.raises(ModuleNotFoundError, match="a_missing_package"):
        make_net(tmp_path, INPUT + python("Gain"))


def test_several_devices_need_share_in_parallel(tmp_path: Path) -> None:
    runtime = Runtime(world_size=2)
    for param in ("", "share_in_parallel: true"):
        message = read_net(write_net(tmp_path, INPUT + python("Gain", param=param)))
        state = NetState(phase=0)
        if param:
            build_net(message, state, runtime)
        else:
            with pytest.raises(CaffeError, match=r"several devices unless .*share_in_parallel"):
                build_net(message, state, runtime)


def test_engine_net_agrees_with_pycaffe(tmp_path: Path) -> None:
    net = make_net(tmp_path, GAIN_LOSS, caffe.TRAIN)
    net.forward()
    net.backward()
    engine = build_net(read_net(str(tmp_path / "net.prototxt")), NetState(phase=0))
    result = engine()
    result.loss.backward()
    assert float(result.loss.detach()) == pytest.approx(float(net.blobs["loss"].data), rel=1e-6)
    (gain,) = (entry.blob for entry in engine.learnable)
    torch.testing.assert_close(gain.grad, torch.from_numpy(net.params["Gain"][0].diff))


def test_results_of_two_passes_are_apart(tmp_path: Path) -> None:
    text = python("Counter", bottom="", param='param_str: "4"')
    engine = build_net(read_net(write_net(tmp_path, text)), NetState(phase=1))
    first, second = engine().blobs["y"], engine().blobs["y"]
    assert first.unique().tolist() == [1]
    assert second.unique().tolist() == [2]


def test_training_with_pycaffe_and_on_the_command_line(tmp_path: Path) -> None:
    extra = "base_lr: 0.05 momentum: 0 max_iter: 40"
    path = write_solver(tmp_path, GAIN_LOSS)
    text = Path(path).read_text()
    for word in ("base_lr: 0.1", "momentum: 0.9", "max_iter: 6"):
        text = text.replace(word, "")
    Path(path).write_text(text + extra)
    solver = caffe.SGDSolver(path)
    solver.step(40)
    gain = float(solver.net.params["Gain"][0].data[0])
    assert gain == pytest.approx(3, abs=0.2)
    sys.modules.pop("tiny_layers")
    loggers = logging.getLogger("caffe_ssd")
    before = list(loggers.handlers), loggers.level, loggers.propagate
    try:
        assert main(["train", "-solver", path]) == 0
    finally:
        loggers.handlers[:], loggers.propagate = before[0], before[2]
        loggers.setLevel(before[1])
    other = make_net(tmp_path, GAIN_LOSS)
    other.copy_from(str(tmp_path / "tiny_iter_40.caffemodel"))
    assert float(other.params["Gain"][0].data[0]) == pytest.approx(gain, rel=1e-5)
