"""`caffe export`: other programs find with the file what the net finds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from caffe_ssd.cli.main import main
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary
from caffe_ssd.scoring.loading import load_net
from tests.data.databases import picture
from tests.support.exported import RUNS, assert_same_detections
from tests.support.golden import SHARED_GOLDEN, needs_shared
from tests.support.tiny_detector import BODY, INPUT, tiny_detector

HEADS = ["loc_flat", "conf_flat", "priors"]
MAP = """
item { name: "none" label: 0 display_name: "none" }
item { name: "c" label: 1 display_name: "cell" }
"""


ARM = """
layer { name: "objects" type: "Convolution" bottom: "f" top: "objects"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layer { name: "arm" type: "Flatten" bottom: "objects" top: "arm" }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(INPUT + BODY)
    save_binary(tiny_detector(), "w.caffemodel")
    return tmp_path


def export(
    output: str, *flags: str, model: str = "deploy.prototxt", weights: str = "w.caffemodel"
) -> int:
    return main(["export", "-model", model, "-weights", weights, "-output", output, *flags])


def blobs(x: torch.Tensor, path: str = "n.onnx") -> dict[str, torch.Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    (given,) = session.get_inputs()
    names = [each.name for each in session.get_outputs()]
    made = session.run(names, {given.name: x.numpy()})
    return {name: torch.from_numpy(blob) for name, blob in zip(names, made, strict=True)}


def assert_same_blobs(net: Net, names: list[str], x: torch.Tensor, atol: float = 1e-4) -> None:
    with torch.no_grad():
        want = net({net.inputs[0]: x}, keep=names).blobs
    got = blobs(x)
    assert list(got) == names
    torch.testing.assert_close(got, {name: want[name] for name in names}, rtol=0, atol=atol)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def test_onnx_takes_any_batch_and_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("n.onnx") == 0
    assert "input   data   batchx3xheightxwidth" in capsys.readouterr().out
    net = tiny_detector()
    for shape in ((2, 3, 32, 48), (1, 3, 40, 24), (3, 3, 36, 44)):
        x = noise(*shape)
        with torch.no_grad():
            want = net({"data": x}).blobs["found"]
        torch.testing.assert_close(blobs(x), {"found": want}, rtol=0, atol=1e-5)


def test_layers_of_other_forks_take_any_batch(folder: Path) -> None:
    shuffle = (
        'layer { name: "s" type: "ShuffleChannel" bottom: "f" top: "s" '
        "shuffle_channel_param { group: 3 } } "
        'layer { name: "g" type: "Convolution" bottom: "s" top: "g" '
        "convolution_param { num_output: 2 kernel_size: 3 } }"
    )
    text = INPUT + BODY[: BODY.index('layer { name: "loc"')] + shuffle
    Path("net.prototxt").write_text(text)
    assert export("n.onnx", "-allow_unfilled", model="net.prototxt") == 0
    assert blobs(noise(5, 3, 32, 48))["g"].shape[0] == 5


def test_what_is_given_is_fixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("n.onnx", "-batch", "3", "-input_size", "40x24", "-heads") == 0
    assert "input   data       3x3x40x24" in capsys.readouterr().out
    assert_same_blobs(tiny_detector(), HEADS, noise(3, 3, 40, 24))
    assert not Path("n_detect.py").exists()


def test_a_net_without_detection_output(folder: Path) -> None:
    text = INPUT + BODY[: BODY.index('layer { name: "priors"')]
    Path("heads.prototxt").write_text(text)
    assert export("n.onnx", model="heads.prototxt") == 0
    assert_same_blobs(tiny_detector(text), ["conf_flat", "loc_flat"], noise(2, 3, 32, 48))


def test_eight_bits(folder: Path) -> None:
    for i in range(4):
        cv2.imwrite(f"{i}.png", picture(seed=i))
    flags = ("-precision", "int8", "-calibration", ".", "-scale", "1/64")
    assert export("n.onnx", *flags, "-heads") == 0
    x = (torch.from_numpy(picture(32, 48)).permute(2, 0, 1)[None].float() - 110) / 64
    assert_same_blobs(tiny_detector(), HEADS, x.repeat(2, 1, 1, 1), atol=0.2)
    for output in ("n.onnx", "n.xml"):
        assert export(output, *flags) == 0
        assert RUNS[Path(output).suffix](Path(output))(x.repeat(2, 1, 1, 1)).shape[1] == 7


STANDALONE = """
import runpy, sys
try:
    import caffe_ssd
except ImportError:
    sys.argv = ["n_detect.py", "0.png", "--threshold", "0.4"]
    runpy.run_path("n_detect.py", run_name="__main__")
"""


def test_the_script_needs_nothing_of_this_package(folder: Path) -> None:
    cv2.imwrite("0.png", picture(50, 70))
    Path("map.prototxt").write_text(MAP)
    assert (
        export(
            "n.onnx", "-label_map", "map.prototxt", "-mean_value", "90,100,110", "-scale", "1/64"
        )
        == 0
    )
    done = run_without_this_package(STANDALONE)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    pixels = (cv2.resize(cv2.imread("0.png"), (48, 32)) - np.float32([90, 100, 110])) / 64
    x = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1))[None]
    with torch.no_grad():
        rows = tiny_detector()({"data": x}).blobs["found"][0, 0]
    rows = rows[rows[:, 2] >= 0.4]
    assert len(lines) == len(rows) > 0
    assert [line[1] for line in lines] == [{1: "cell", 2: "2"}[int(row[1])] for row in rows]
    found = np.array([line[2:] for line in lines], float)
    np.testing.assert_allclose(found, rows[:, 2:].numpy(), atol=1e-4)


def run_without_this_package(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code where only the packages of other people can be imported."""
    # An editable install is found by a .pth file, which -S leaves out; PYTHONPATH falls to -I.
    folders = [path for path in sys.path if path.endswith("site-packages")]
    code = f"import sys; sys.path += {folders!r}\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=300
    )


def test_a_script_of_somebody_else_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("n_detect.py").write_text("import theirs\n")
    assert export("n.onnx") == 2
    assert "n_detect.py is there and is not of this command" in capsys.readouterr().err
    assert Path("n_detect.py").read_text() == "import theirs\n"
    assert not Path("n.onnx").exists()
    Path("n_detect.py").unlink()
    assert export("n.onnx") == export("n.onnx") == 0


def test_class_names_travel(folder: Path) -> None:
    Path("map.prototxt").write_text(MAP)
    assert export("n.onnx", "-label_map", "map.prototxt", "-scale", "0.5") == 0
    facts = onnxruntime.InferenceSession("n.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["class_names"]) == {"0": "none", "1": "cell"}
    assert json.loads(facts["mean"]) == [104, 117, 123]
    assert (json.loads(facts["scale"]), facts["input_size"]) == (0.5, "32x48")


@needs_shared
@pytest.mark.parametrize("suffix", RUNS)
@pytest.mark.parametrize(
    ("name", "scale"),
    [("wechat_qrcode/detect", 1 / 255), ("yufacedetectnet-open-v1/yufacedetectnet-open-v1", 1)],
)
def test_released_models(folder: Path, suffix: str, name: str, scale: float) -> None:
    home = (SHARED_GOLDEN / "models" / name).parent
    model, weights = (
        str(SHARED_GOLDEN / "models" / f"{name}.{end}") for end in ("prototxt", "caffemodel")
    )
    assert export(f"n{suffix}", model=model, weights=weights) == 0
    run = RUNS[suffix](Path(f"n{suffix}"))
    net = load_net(model, weights)
    facts = json.loads((home / "expected.json").read_text())
    for case in facts["cases"][:2]:
        grey = facts["preprocessing"]["colour"] == "gray"
        pixels = np.atleast_3d(cv2.imread(str(home / case["input"]), 0 if grey else 1))
        pixels = (pixels.astype(np.float32) - facts["preprocessing"]["mean"]) * scale
        x = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1))[None]
        with torch.no_grad():
            want = net({"data": x}).blobs[net.outputs[0]]
        assert_same_detections(want.reshape(-1, 7).numpy(), run(x))
        if not grey or case["stable"]:
            recorded = np.array(case["detection_out"], np.float32)[np.array(case["stable"]) == 1]
            assert_same_detections(recorded, run(x), only_wanted=True)


@pytest.mark.parametrize("name", ["n", "n.png", "n.caffemodel", "onnx"])
def test_other_names_are_refused(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(name) == 2
    assert (
        "must end in one of .onnx (onnx), .xml (openvino), .pt2 (torch)" in capsys.readouterr().err
    )
    assert not Path(name).exists()


def test_safetensors_hold_every_blob(folder: Path) -> None:
    assert export("w.safetensors") == 0
    want = {
        f"{layer}.{i}": blob.data
        for layer, own in tiny_detector().layer_blobs()
        for i, blob in enumerate(own)
    }
    assert "loc.1" in want
    torch.testing.assert_close(load_file("w.safetensors"), want, rtol=0, atol=0)


def test_torch_takes_any_batch_and_torchscript_one_shape(folder: Path) -> None:
    net = tiny_detector()
    x = noise(5, 3, 32, 48)
    with torch.no_grad():
        want = net({"data": x}).blobs["found"].reshape(-1, 7).numpy()
    assert export("n.pt2") == 0
    np.testing.assert_allclose(RUNS[".pt2"](Path("n.pt2"))(x), want, atol=1e-4, rtol=1e-4)
    assert export("n.pt", "-batch", "5") == 0
    run = RUNS[".pt"](Path("n.pt"))
    np.testing.assert_allclose(run(x), want, atol=1e-4, rtol=1e-4)
    with pytest.raises(Exception, match="inputs of another shape"):
        run(noise(2, 3, 32, 48))


def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(output: str, *flags: str, **files: str) -> str:
        assert export(output, *flags, **files) == 2
        assert not Path(output).exists()
        return capsys.readouterr().err

    assert "is a name for format onnx" in refused("n.onnx", "-format", "torch")
    refused("n.onnx", "-precision", "bf16")
    assert "needs calibration" in refused("n.onnx", "-precision", "int8")
    assert "not for format torch" in refused("n.pt2", "-precision", "int8", "-calibration", ".")
    assert "not for format openvino" in refused("n.xml", "-heads")
    assert "have no batch" in refused("n.safetensors", "-batch", "2")
    refused("n.onnx", "-batch", "0")
    assert main(["export", "-model", "deploy.prototxt", "-weights", "w.caffemodel"]) == 2
    assert "-output is missing" in capsys.readouterr().err
    bad = INPUT + 'layer { name: "m" type: "MVN" bottom: "data" top: "m" }'
    Path("bad.prototxt").write_text(bad)
    message = refused("n.onnx", model="bad.prototxt")
    assert "layer 'm' (MVN) cannot be written in ONNX" in message
    Path("refined.prototxt").write_text(
        INPUT
        + BODY.replace('layer { name: "found"', ARM + 'layer { name: "found"').replace(
            'bottom: "priors" top: "found"', 'bottom: "priors" bottom: "arm" top: "found"'
        )
    )
    for output in ("n.onnx", "n.xml", "n.pt2", "n.pt"):
        message = refused(output, "-allow_unfilled", model="refined.prototxt")
        assert "layer 'found' (DetectionOutput) cannot be written in" in message
        assert "what another fork adds" in message
    Path("eta.prototxt").write_text(
        INPUT + BODY.replace("nms_threshold: 0.4", "nms_threshold: 0.7 eta: 0.9")
    )
    for output in ("n.onnx", "n.xml"):
        message = refused(output, model="eta.prototxt")
        assert "layer 'found' (DetectionOutput) cannot be written" in message
        assert "eta 0.9" in message
