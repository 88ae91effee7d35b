"""`caffe draw`."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.cli.main import main

NET = """
name: "small" input: "x" input_shape { dim: [2, 3, 5, 7] }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "drop" type: "Dropout" bottom: "y" top: "y" include { phase: TRAIN } }
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "net.prototxt"
    file.write_text(NET)
    return str(file)


def test_picture(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "net.svg"
    assert main(["draw", path, str(target)]) == 0
    assert capsys.readouterr().out == f"Wrote {target}\n"
    text = target.read_text()
    assert text.startswith("<svg ")
    assert ">conv 3×3, 4 + ReLU<" in text
    assert ">conv   2×4×3×5<" in text
    assert "<title>conv, relu</title>" in text
    assert main(["draw", path, str(target), "-phase", "TRAIN"]) == 0
    assert ">conv 3×3, 4 + ReLU + dropout<" in target.read_text()


def test_wrong_usage(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["net.png"], "must end in .svg, got 'net.png'"),
        (["net.svg", "-phase", "BOTH"], "-phase must be TRAIN or TEST, got 'BOTH'"),
    ):
        assert main(["draw", path, *more]) == 2
        assert message in capsys.readouterr().err
    assert main(["draw", path, str(tmp_path / "none" / "net.svg")]) == 1
    assert "none" in capsys.readouterr().err
    assert main(["draw", "--help"]) == 0
    assert "caffe draw deploy.prototxt net.svg" in capsys.readouterr().out
