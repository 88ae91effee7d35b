"""The engine `auto` takes what was measured to be the fastest, and remembers it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caffe_ssd.engines.accelerate import accelerate
from caffe_ssd.engines.auto_engine import AutoEngine, seconds_per_pass
from caffe_ssd.engines.engine import Engine
from caffe_ssd.engines.frozen_net import freeze
from caffe_ssd.engines.identity import processor, structure_digest, weights_digest
from caffe_ssd.engines.notes import Note, NoteFile, cache_folder
from caffe_ssd.engines.onnx_runtimes import OnnxRuntimeEngine, OpenVinoEngine
from caffe_ssd.engines.precision import Precision
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from tests.engines.nets import make_net, picture, randomise

BODY = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 4 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "i" type: "InnerProduct" bottom: "c" top: "i" inner_product_param { num_output: 5 } }
"""


class Clock:
    """Stands for the measuring; says how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
        self.left = list(seconds)
        monkeypatch.setattr(AutoEngine, "seconds_per_pass", staticmethod(self._next))

    def _next(self, run: Callable[..., object], inputs: tuple[Tensor, ...]) -> float:
        run(*inputs)
        return self.left.pop(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("CAFFE_SSD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


def chosen(net: Net, precision: Precision | None = None) -> str:
    """The name of what `auto` takes for a net; its result is checked, too."""
    x = picture()
    with torch.no_grad():
        want = net({"x": x}).blobs["i"]
        engine = accelerate(net, "auto", Precision() if precision is None else precision)
        got = net({"x": x}).blobs["i"]
    assert engine is not None
    if precision is None:
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    return engine.description.split()[0]


# What is measured comes in the order torch, openvino, onnxruntime.
@pytest.mark.parametrize(
    ("seconds", "fastest"),
    [
        ((0.5, 0.3, 0.4), "openvino"),
        ((0.5, 0.4, 0.3), "onnxruntime"),
        ((0.2, 0.4, 0.3), "torch"),
        ((0.2, 0.2, 0.2), "torch"),
    ],
)
def test_the_fastest_is_taken_and_said(
    seconds: tuple[float, ...],
    fastest: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Clock(monkeypatch, *seconds)
    with caplog.at_level(logging.INFO):
        assert chosen(make_net(BODY)) == fastest
    (line,) = [text for text in caplog.messages if text.startswith("Engine: ")]
    assert line.startswith(f"Engine: {fastest} ")
    assert f"(measured: {fastest} {1e3 * min(seconds):.3g} ms, " in line
    assert line.count(" ms") == 3


def test_measured_once_per_net_and_shape(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cache: Path
) -> None:
    clock = Clock(monkeypatch, 0.5, 0.4, 0.3, 0.1, 0.2, 0.3)
    assert chosen(make_net(BODY)) == "onnxruntime"
    with caplog.at_level(logging.INFO):
        assert chosen(make_net(BODY)) == "onnxruntime"
    assert "measured before: onnxruntime 300 ms, openvino 400 ms, torch 500 ms" in caplog.text
    assert len(clock.left) == 3
    other = make_net(BODY.replace("num_output: 4", "num_output: 6"))
    assert chosen(other) == "torch"
    assert clock.left == []
    assert len(list(cache.iterdir())) == 2


def test_threads_and_precision_are_measured_apart(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    Clock(monkeypatch, 0.5, 0.4, 0.3, 0.1, 0.2, 0.2, 0.1, 0.3)
    assert chosen(make_net(BODY)) == "onnxruntime"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    assert chosen(make_net(BODY)) == "torch"
    monkeypatch.undo()
    monkeypatch.setenv("CAFFE_SSD_CACHE", str(cache.parent))
    Clock(monkeypatch, 0.2, 0.1)
    assert chosen(make_net(BODY), Precision(name="bf16")) == "openvino"
    assert len(list(cache.iterdir())) == 3


def test_other_weights_are_compared_but_not_measured_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Clock(monkeypatch, 0.5, 0.4, 0.3)
    prepared = count_preparations(monkeypatch)
    chosen(make_net(BODY))
    assert prepared == ["torch", "openvino", "onnxruntime"]
    for expected in (["onnxruntime", "torch"], ["onnxruntime"]):
        prepared.clear()
        net = make_net(BODY)
        randomise(net, seed=9)
        assert chosen(net) == "onnxruntime"
        assert prepared == expected


def count_preparations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the engines that are prepared, in order."""
    names: list[str] = []
    real = AutoEngine._offers

    def noted(engine: Engine) -> Engine:
        prepare = engine.prepare

        def noting(*args: object) -> object:
            names.append(engine.name)
            return prepare(*args)  # type: ignore[arg-type]

        engine.prepare = noting  # type: ignore[assignment, method-assign]
        return engine

    monkeypatch.setattr(AutoEngine, "_offers", lambda *args: map(noted, real(*args)))
    return names


def test_what_is_missing_fails_or_errs_is_passed_over(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    class Missing(OpenVinoEngine):
        def __init__(self, net, precision):
            raise UsageError("not installed")

    class Broken(OpenVinoEngine):
        def load(self, model, weights):
            raise RuntimeError("no such instruction\nat line 7")

    class Wrong(OnnxRuntimeEngine):
        def prepare(self, net, inputs):
            run = super().prepare(net, inputs)
            return lambda *tensors: tuple(top + 1 for top in run(*tensors))

    monkeypatch.setattr(AutoEngine, "libraries", (Missing, Broken, Wrong))
    Clock(monkeypatch, 0.5)
    assert chosen(make_net(BODY)) == "torch"
    assert "failed; not used: no such instruction" in caplog.text
    assert "at line 7" not in caplog.text
    assert "computes something else; not used" in caplog.text
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["seconds"] == {"torch": 0.5}


def test_what_was_the_fastest_and_fails_now_is_measured_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, 0.5, 0.4, 0.3, 0.5, 0.4)
    assert chosen(make_net(BODY)) == "onnxruntime"

    def broken(self: OnnxRuntimeEngine, model: bytes, weights: object) -> None:
        raise RuntimeError("damaged")

    monkeypatch.setattr(OnnxRuntimeEngine, "load", broken)
    assert chosen(make_net(BODY)) == "openvino"
    assert "failed; not used: damaged" in caplog.text
    assert clock.left == []


def test_mistakes_of_the_net_are_not_an_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, net: object, inputs: object) -> None:
        raise RuntimeError("the net's own")

    monkeypatch.setattr("caffe_ssd.engines.torch_engine.TorchEngine.prepare", broken)
    net = make_net(BODY)
    accelerate(net, "auto")
    with pytest.raises(RuntimeError, match="the net's own"):
        net({"x": picture()})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"engine": 3, "seconds": {}, "agreed": []}',
        '{"engine": "torch", "seconds": {"torch": "soon"}, "agreed": []}',
        '{"engine": "torch", "seconds": [], "agreed": []}',
        "[" * 30000,
        "\0",
    ],
)
def test_a_damaged_note_is_made_again(
    content: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    Clock(monkeypatch, 0.5, 0.3, 0.4, 0.5, 0.4, 0.3)
    assert chosen(make_net(BODY)) == "openvino"
    (file,) = cache.iterdir()
    good = json.loads(file.read_text())
    file.write_text(content)
    assert chosen(make_net(BODY)) == "onnxruntime"
    assert json.loads(file.read_text()) == good | {
        "engine": "onnxruntime",
        "seconds": {"torch": 0.5, "openvino": 0.4, "onnxruntime": 0.3},
    }


def test_an_engine_that_is_gone_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    Clock(monkeypatch, 0.5, 0.3, 0.4, 0.5, 0.4, 0.3)
    chosen(make_net(BODY))
    (file,) = cache.iterdir()
    file.write_text(file.read_text().replace('"openvino",', '"tensorrt",'))
    assert chosen(make_net(BODY)) == "onnxruntime"


def test_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CAFFE_SSD_CACHE", str(tmp_path / "file"))
    Clock(monkeypatch, 0.5, 0.3, 0.4)
    with caplog.at_level(logging.INFO):
        assert chosen(make_net(BODY)) == "openvino"
    assert "is not kept" in caplog.text
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_SSD_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.setenv("CAFFE_SSD_CACHE", "")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/caffe-ssd")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path(os.path.expanduser("~/.cache/caffe-ssd"))


def test_notes_keep_few_weights() -> None:
    file = NoteFile({"a": 1})
    note = Note(engine="torch", seconds={"torch": 0.5}, agreed=[])
    for i in range(40):
        note = note.with_weights(str(i))
    note = note.with_weights("30")
    file.write(note)
    assert file.read() == note
    assert note.agreed[-1] == "30"
    assert len(note.agreed) == len(set(note.agreed)) == 16
    assert NoteFile({"a": 2}).read() is None
    assert processor() == processor() != ""


def test_digests_tell_nets_apart() -> None:
    def digests(text: str, seed: int = 5) -> tuple[str, str]:
        net = make_net(text)
        randomise(net, seed)
        frozen = freeze(net)
        return structure_digest(frozen), weights_digest(frozen)

    structure, weights = digests(BODY)
    assert digests(BODY) == (structure, weights)
    assert digests(BODY, seed=6)[0] == structure
    assert digests(BODY, seed=6)[1] != weights
    without_relu = BODY.replace("ReLU", "Dropout")
    assert digests(without_relu)[0] != structure
    assert digests(BODY.replace("kernel_size: 3", "kernel_size: 3 pad: 1"))[0] != structure


def test_seconds_of_a_pass() -> None:
    asked = []

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        asked.append(inputs)
        return inputs

    x = picture()
    assert 0 <= seconds_per_pass(run, (x,)) < float("inf")
    assert asked == [(x,), (x,)]
