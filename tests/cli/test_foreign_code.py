"""Commands that only look never import what a prototxt names; the others can be forbidden to."""

from __future__ import annotations

from pathlib import Path

import caffe
import pytest

from caffe_ssd.cli import flags
from caffe_ssd.cli.main import main
from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers import python

CODE = """
import pathlib
pathlib.Path("ran").touch()
import caffe
class Layer(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top): top[0].data[...] = 0
"""
NET = """
layer {{ name: "x" type: "Input" top: "x"
  input_param {{ shape {{ dim: 2 dim: 3 dim: 5 dim: 4 }} }} }}
layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param {{ num_output: 7 }} }}
layer {{ name: "mine" type: "Python" bottom: "ip" top: "y"
  python_param {{ module: "{0}" layer: "Layer" }} }}
"""
BEHIND = """
layer { name: "conv" type: "Convolution" bottom: "y" top: "z"
  convolution_param { num_output: 1 kernel_size: 1 } }
"""


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"code_of_{tmp_path.name}"  # a module is imported once in a process
    Path(f"{module}.py").write_text(CODE)
    Path("net.prototxt").write_text(NET.format(module))
    caffe_net = NET.format(module).split('layer { name: "mine"')[0]
    Path("plain.prototxt").write_text(caffe_net)
    return module


def ran() -> bool:
    return Path("ran").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["summary", "net.prototxt"],
        ["summary", "net.prototxt", "-json"],
        ["draw", "net.prototxt", "net.svg"],
        ["upgrade_net", "net.prototxt", "new.prototxt"],
    ],
    ids=" ".join,
)
def test_looking_runs_nothing(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    assert not ran()


def test_summary_does_not_claim_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["summary", "net.prototxt"])
    row = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("mine"))
    assert row.split()[:3] == ["mine", "Python", "?"]
    with open("net.prototxt", "a") as file:
        file.write(BEHIND)
    assert main(["summary", "net.prototxt"]) == 1
    said = capsys.readouterr().err
    assert "layer 'conv' (Convolution)" in said
    assert "Python layer 'mine' have no known shape, since" in said
    assert not ran()


def test_export_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    caffe.Net("plain.prototxt", caffe.TEST).save("w.caffemodel")
    command = ["export", "-model", "net.prototxt", "-weights", "w.caffemodel", "-output", "x.onnx"]
    assert main(command) == 1
    assert "layer 'mine' (Python): would run code" in capsys.readouterr().err
    assert not ran()


def test_the_switch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert flags.FORBIDDING == python.FORBIDDING
    monkeypatch.setenv(python.FORBIDDING, "0")
    command = ["time", "-model", "net.prototxt", "-phase", "TEST", "-iterations", "1"]
    assert main([*command, "-no_python_layers"]) == 1  # sets the variable, too
    assert "CAFFE_NO_PYTHON_LAYERS forbids it" in capsys.readouterr().err
    with pytest.raises(LayerParamError, match="would run code, class 'Layer' of module"):
        caffe.Net("net.prototxt", caffe.TEST)
    assert not ran()
    monkeypatch.setenv(python.FORBIDDING, "0")
    caffe.Net("net.prototxt", caffe.TEST)
    assert ran()
