"""`caffe summary`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from caffe.models.dsod_recipes import dsod_pascal
from caffe.models.recipe import make_nets

from caffe_ssd.cli.main import main

NET = """
name: "small" input: "x" input_shape { dim: [2, 3, 5, 7] }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "net.prototxt"
    file.write_text(NET)
    return str(file)


def test_layers_and_totals(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", path]) == 0
    table, totals = capsys.readouterr().out.split("\n\n")
    assert [line.split() for line in table.splitlines()] == [
        ["layer", "type", "tops", "parameters", "MFLOP", "MiB"],
        ["input", "Input", "2x3x5x7", "-", "-", "0.00"],
        ["conv", "Convolution", "2x4x3x5", "112", "0.0", "0.00"],
        ["relu", "ReLU", "2x4x3x5", "-", "-", "-"],
    ]
    assert "inputs        x (2x3x5x7)\n" in totals
    assert "outputs       y (2x4x3x5)\n" in totals
    assert "parameters    112 floats (0.0 MB)\n" in totals


def test_json(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", path, "-json"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert entry["flops"] == 2 * (2 * 4 * 3 * 5) * 27
    assert entry["parameters"] == 112
    assert entry["activation_bytes_training"] == 4 * (210 + 120)
    # The convolution's top stands beside its bottom, the ReLU's beside the convolution's.
    assert entry["activation_bytes_inference"] == 4 * (210 + 120)
    assert 448 < entry["caffemodel_bytes"] < 700
    assert [layer["type"] for layer in entry["layers"]] == ["Input", "Convolution", "ReLU"]


def test_wrong_phase(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", path, "-phase", "BOTH"]) == 2
    assert "-phase must be TRAIN or TEST" in capsys.readouterr().err


def test_dsod300_has_its_published_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "deploy.prototxt"
    file.write_text(str(make_nets(dsod_pascal(), "results")["deploy"]))
    assert main(["summary", str(file)]) == 0
    totals = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert "parameters    14,795,828 floats (59.2 MB)" in totals
    assert "caffemodel    59.2 MB" in totals
    assert "forward pass  30.2 GFLOP" in totals
    assert "priors        8,744 (38x38x4, 19x19x6, 10x10x6, 5x5x6, 3x3x4, 2x2x4)" in totals
