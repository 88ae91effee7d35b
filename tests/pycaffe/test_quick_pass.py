"""Quick passes: whatever a script does, it sees what the layer-by-layer pass gives."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import caffe
import numpy as np
import pytest

from caffe_ssd.engines.accelerate import EngineCall
from caffe_ssd.errors import CaffeError

DETECTOR_LIKE = """
input: "data" input_shape { dim: 2 dim: 3 dim: 9 dim: 7 }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 weight_filler { type: "xavier" }
    bias_filler { value: 0.1 } } }
layer { name: "b1" type: "BatchNorm" bottom: "c1" top: "b1" }
layer { name: "s1" type: "Scale" bottom: "b1" top: "b1"
  scale_param { filler { value: 1.5 } bias_term: true bias_filler { value: 0.2 } } }
layer { name: "r1" type: "ReLU" bottom: "b1" top: "b1" }
layer { name: "p1" type: "Pooling" bottom: "b1" top: "p1"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "c2" type: "Convolution" bottom: "p1" top: "c2"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "r2" type: "ReLU" bottom: "c2" top: "c2" }
layer { name: "cat" type: "Concat" bottom: "p1" bottom: "c2" top: "cat" }
layer { name: "flat" type: "Flatten" bottom: "cat" top: "flat" }
layer { name: "prob" type: "Softmax" bottom: "flat" top: "prob" }
layer { name: "low" type: "Power" bottom: "p1" top: "low" power_param { scale: 0.5 } }
"""
INNER = ("c1", "b1", "p1", "c2", "cat", "flat")


def write(folder: Path) -> str:
    path = folder / "net.prototxt"
    path.write_text(DETECTOR_LIKE)
    return str(path)


def twins(folder: Path) -> tuple[caffe.Net, caffe.Net]:
    """The same net twice; the second makes no quick passes."""
    path = write(folder)
    nets = []
    for _ in range(2):
        caffe.set_random_seed(7)
        net = caffe.Net(path, caffe.TEST)
        for i, name in enumerate(("b1",)):
            net.params[name][0].data[...] = np.linspace(-1, 1, 6) + i
            net.params[name][1].data[...] = np.linspace(1, 2, 6)
            net.params[name][2].data[...] = 1
        nets.append(net)
    nets[1].share_parameters()
    return nets[0], nets[1]


def is_quick(net: caffe.Net) -> bool:
    """Whether the last pass has left blobs open."""
    return net._quick is not None and net._quick._open is not None


class Script:
    """Does the same to both nets and compares what there is to see."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.nets = twins(folder)
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.held: list[tuple[np.ndarray, np.ndarray]] = []

    def same(self, look: Callable[[caffe.Net], np.ndarray]) -> None:
        got, want = (np.array(look(net)) for net in self.nets)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)

    def both(self, do: Callable[[caffe.Net], object]) -> None:
        for net in self.nets:
            do(net)

    def feed(self) -> None:
        x = self.rng.standard_normal(self.nets[0].blobs["data"].data.shape)
        self.both(lambda net: net.blobs["data"].data.__setitem__(..., x))

    def forward(self) -> None:
        outs = [net.forward() for net in self.nets]
        for name in outs[0]:
            np.testing.assert_allclose(outs[0][name], outs[1][name], rtol=1e-4, atol=1e-5)

    def look(self) -> None:
        name = self.random.choice(INNER)
        self.same(lambda net: net.blobs[name].data)

    def look_by_argument(self) -> None:
        name = self.random.choice(INNER)
        self.same(lambda net: net.forward(blobs=[name])[name])

    def write_inner_and_go_on(self) -> None:
        self.both(lambda net: net.blobs["p1"].data.__setitem__((0, 1), 3))
        self.both(lambda net: net.forward(start="c2"))
        self.look()

    def change_weights(self) -> None:
        name, value = self.random.choice(["c1", "c2", "b1"]), self.random.uniform(0.5, 1.5)
        self.both(lambda net: net.params[name][1].data.__setitem__(0, value))

    def hold_weights(self) -> None:
        self.held.append(tuple(net.params["c2"][0].data[0] for net in self.nets))  # type: ignore

    def hold_inner(self) -> None:
        self.held.append(tuple(net.blobs["c2"].data[1] for net in self.nets))  # type: ignore

    def write_held(self) -> None:
        for pair in self.held:
            for array in pair:
                array[...] *= 1.25

    def look_at_held(self) -> None:
        for got, want in self.held:
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)

    def let_go(self) -> None:
        self.held.clear()

    def reshape(self) -> None:
        height = self.random.choice([8, 9, 11])

        def do(net: caffe.Net) -> None:
            net.blobs["data"].reshape(2, 3, height, 7)
            net.reshape()

        self.both(do)
        self.feed()

    def part(self) -> None:
        self.both(lambda net: net.forward(end="p1"))
        self.same(lambda net: net.blobs["p1"].data)

    def backward(self) -> None:
        self.both(lambda net: net.blobs["prob"].diff.__setitem__(..., 1.0))
        self.both(lambda net: net.backward())
        self.same(lambda net: net.params["c2"][0].diff)

    def shapes(self) -> None:
        shapes = [{name: blob.shape for name, blob in net.blobs.items()} for net in self.nets]
        assert shapes[0] == shapes[1]


STEPS = [name for name, each in vars(Script).items() if callable(each) and name[0] != "_"]
STEPS = [name for name in STEPS if name not in ("same", "both")]


@pytest.mark.parametrize("seed", range(25))
def test_nobody_notices(seed: int, tmp_path: Path) -> None:
    script = Script(tmp_path, seed)
    script.feed()
    script.forward()
    done = []
    for _ in range(25):
        step = script.random.choice([*STEPS, "feed", "forward", "forward", "forward"])
        done.append(step)
        try:
            getattr(script, step)()
        except AssertionError as error:
            raise AssertionError(f"after {done}: {error}") from error


def test_passes_are_quick_until_somebody_looks(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path), caffe.TEST)
    for _ in range(3):
        net.forward()
        assert is_quick(net)
    assert any(isinstance(op.layer, EngineCall) for op in net._quick._frozen)
    net.blobs["c2"].data.max()
    assert not is_quick(net)
    net.forward()
    assert not is_quick(net)  # he who looked once looks again
    net.forward()
    assert is_quick(net)


def test_values_are_those_of_the_pass_not_of_what_changed_since(tmp_path: Path) -> None:
    net = caffe.Net(write(tmp_path), caffe.TEST)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.blobs["data"].data[...] = 2
    net.params["c1"][0].data[...] = 0
    late = net.blobs["c1"].data.copy()
    other = caffe.Net(write(tmp_path), caffe.TEST)
    assert late.std() > 0
    other.params["c1"][0].data[...] = 0
    other.forward()
    assert other.blobs["c1"].data.std() < 1e-6


def test_weights_changed_between_quick_passes_count(tmp_path: Path) -> None:
    net, _ = twins(tmp_path)
    net.blobs["data"].data[...] = 1
    before = [net.forward()["prob"].copy() for _ in range(3)][-1]
    net.params["c2"][0].data[...] = 0
    after = net.forward()["prob"].copy()
    assert np.abs(before - after).max() > 1e-4
    net.save(str(tmp_path / "w.caffemodel"))
    fresh = caffe.Net(write(tmp_path), caffe.TEST)
    fresh.blobs["data"].data[...] = 1
    for _ in range(3):
        fresh.forward()
    fresh.copy_from(str(tmp_path / "w.caffemodel"))
    np.testing.assert_allclose(fresh.forward()["prob"], after, rtol=1e-5)


def test_nan_follows_the_layers_rules(tmp_path: Path) -> None:
    first, second = twins(tmp_path)
    for net in (first, second):
        for _ in range(3):
            net.blobs["data"].data[...] = 1
            net.blobs["data"].data[0, 0, 2, 2] = np.nan
            net.forward()
    np.testing.assert_allclose(first.blobs["low"].data, second.blobs["low"].data, rtol=1e-4)


def test_a_net_shared_by_threads_refuses_or_is_right(tmp_path: Path) -> None:
    alone, _ = twins(tmp_path)
    inputs = np.random.default_rng(0).standard_normal((4, 2, 3, 9, 7)).astype(np.float32)
    want = []
    for x in inputs:
        alone.blobs["data"].data[...] = x
        want.append(alone.forward()["prob"].copy())
    wrong: list[int] = []
    refused: list[str] = []

    def work(i: int) -> None:
        for _ in range(30):
            try:
                alone.blobs["data"].data[...] = inputs[i]
                got = alone.forward()["prob"]
            except CaffeError as error:
                refused.append(str(error))
                continue
            if not np.allclose(got, want[i], rtol=1e-4, atol=1e-6):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert all("two threads use this net at the same time" in text for text in refused)


def test_threads_that_take_turns_are_welcome(tmp_path: Path) -> None:
    net, _ = twins(tmp_path)
    lock, found = threading.Lock(), []

    def work(value: float) -> None:
        for _ in range(5):
            with lock:
                net.blobs["data"].data[...] = value
                found.append((value, float(net.forward()["low"].sum())))

    threads = [threading.Thread(target=work, args=(v,)) for v in (0.0, 1.0, 2.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 15
    assert len({(v, round(s, 2)) for v, s in found}) == 3
