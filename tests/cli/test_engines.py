"""-engine and -precision of `caffe detect`, `test` and `time`."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import cv2
import pytest
import torch

from caffe_ssd.cli.flags import ActionParser, add_engine_flags, engine_of
from caffe_ssd.cli.main import main
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.net.weights import save_binary
from caffe_ssd.scoring.calibration import CalibrationPictures, open_pictures, picture_transform
from caffe_ssd.scoring.engine_choice import EngineChoice
from caffe_ssd.scoring.picture_detector import PictureDetector
from caffe_ssd.scoring.tables import format_cost
from tests.data.databases import picture, write_small_database
from tests.support.tiny_detector import BODY, DATA, INPUT, JUDGE, tiny_detector

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NET = ["-weights", "w.caffemodel"]
INT8 = ["-precision", "int8", "-calibration"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures in a database, five in a folder, nets for both, and weights."""
    monkeypatch.chdir(tmp_path)
    write_small_database(tmp_path / "lmdb")
    Path("pictures/more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.jpg", "c.JPG", "more/d.png", "e.png")):
        cv2.imwrite(f"pictures/{name}", picture(seed=i))
    Path("pictures/notes.txt").write_text("no picture")
    Path("test.prototxt").write_text(DATA + BODY + JUDGE)
    Path("deploy.prototxt").write_text(INPUT + BODY)
    save_binary(tiny_detector(), "w.caffemodel")
    return tmp_path


def choice(*flags: str, device: torch.device = CPU, default: str = "none") -> EngineChoice:
    return engine_of(parsed(*flags), device, default)


def parsed(*flags: str) -> argparse.Namespace:
    parser = ActionParser("test", description="", examples="")
    add_engine_flags(parser, "none")
    return parser.parse_action(list(flags))


def test_choices(folder: Path) -> None:
    assert choice().is_plain
    assert choice(default="auto") == EngineChoice(engine="auto")
    assert choice("-precision", "bf16").engine == "auto"
    assert choice("-precision", "bf16", "-engine", "torch", device=CUDA).engine == "torch"
    assert choice(device=CUDA).is_plain
    assert choice(*INT8, "lmdb", "-calibration_images", "3").images == 3


@pytest.mark.parametrize(
    ("flags", "device", "message"),
    [
        ("-precision int8", CPU, "needs calibration with a folder or an LMDB: a few hundred"),
        ("-precision int8 -calibration gone", CPU, "gone: there is no such folder or database"),
        ("-precision int8 -calibration empty", CPU, r"neither a database .* nor pictures"),
        ("-calibration lmdb", CPU, "calibration belongs to precision int8"),
        ("-calibration_images 5", CPU, "calibration_images belongs to precision int8"),
        ("-precision int8 -calibration lmdb -calibration_images 0", CPU, "at least 1, got 0"),
        ("-precision bf16 -engine none", CPU, "bf16 needs an engine"),
        ("-precision bf16 -engine onnxruntime", CPU, "these do: auto, torch, compile, openvino"),
        ("-engine fastest", CPU, "invalid choice: 'fastest'"),
        ("-engine openvino", CUDA, "engine openvino runs on the CPU only, not on a GPU"),
        ("-precision int8 -calibration lmdb", CUDA, "int8 runs on the CPU only"),
    ],
)
def test_refusals(folder: Path, flags: str, device: torch.device, message: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(UsageError, match=message):
        choice(*flags.split(), device=device)


def test_pictures_are_prepared_as_the_detector_does(folder: Path) -> None:
    detector = PictureDetector(tiny_detector(), mean=(9, 5, 7), scale=0.5, size=(24, 40))
    transform = picture_transform(3, (24, 40), mean=(9, 5, 7), scale=0.5)
    pictures = CalibrationPictures(open_pictures("pictures"), transform, 200)
    assert len(pictures) == 5
    for item, name in zip(
        pictures, ("a.png", "b.jpg", "c.JPG", "e.png", "more/d.png"), strict=True
    ):
        image = cv2.imread(f"pictures/{name}")
        assert image is not None
        torch.testing.assert_close(item, detector.batch([image], (24, 40)))


def test_pictures_are_spread_evenly(folder: Path) -> None:
    source = open_pictures("lmdb")
    transform = picture_transform(3, (24, 40))
    few, all_ = (CalibrationPictures(source, transform, n) for n in (3, 7))
    for i, record in enumerate((0, 2, 4)):
        assert torch.equal(few[i], all_[record])
    Path("pictures/b.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"b\.jpg cannot be decoded"):
        CalibrationPictures(open_pictures("pictures"), transform, 5)[1]


def detections(*flags: str) -> list[list[float]]:
    command = ["detect", "pictures/a.png", "pictures/b.jpg", "pictures/e.png", "-threshold", "0.4"]
    command += ["-model", "deploy.prototxt", *NET, "-batch", "2", "-json", "o.json"]
    command += ["-scale", "1/64"]  # random layers make much of large values
    assert main([*command, "-output", "out", *flags]) == 0
    return [
        [each["label"], each["score"], *each["box"]]
        for entry in json.loads(Path("o.json").read_text())
        for each in entry["detections"]
    ]


def assert_near(mine: list[list[float]], theirs: list[list[float]]) -> None:
    assert len(mine) == len(theirs) > 5
    for row, want in zip(mine, theirs, strict=True):
        assert row == pytest.approx(want, abs=1e-4)


def test_detect_finds_the_same_with_every_engine(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = detections("-engine", "none")
    assert "Engine" not in capsys.readouterr().err
    assert_near(detections("-engine", "auto"), plain)
    assert re.search(r"Engine: \w+ .*\(measured: ", capsys.readouterr().err)
    assert_near(detections("-engine", "auto"), plain)
    assert "(measured before: " in capsys.readouterr().err
    for engine in ("torch", "onnxruntime"):
        assert_near(detections("-engine", engine), plain)
        assert f"Engine: {engine} " in capsys.readouterr().err


def test_detect_prepares_no_engine_for_little(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = detections("-engine", "none")
    capsys.readouterr()
    assert detections() == plain
    assert "Engine: none; with so little to do" in capsys.readouterr().err
    detections("-flip", "-scales", "1,1.5")  # 12 passes
    assert "(measured" in capsys.readouterr().err


def test_detect_at_scales_with_an_engine(folder: Path) -> None:
    flags = ["-scales", "24x40,32x48,48x64,32x64,64x48", "-flip", "-engine"]
    assert_near(detections(*flags, "torch"), detections(*flags, "none"))


def test_detect_in_eight_bits(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At several sizes and batch sizes; the pictures are calibrated with once."""
    detections(*INT8, "pictures", "-scales", "1,1.5", "-engine", "onnxruntime")
    log = capsys.readouterr().err
    assert log.count("Calibrating int8 with 5 of 5 pictures in pictures") == 1
    assert re.search(r"Engine: onnxruntime [\d.]+, int8", log)


def means(capsys: pytest.CaptureFixture[str]) -> list[float]:
    log = capsys.readouterr().err
    return [float(x) for x in re.findall(r"mAP \(\w+\) = (\S+)", log)]


def test_scores_with_an_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["test", "-model", "test.prototxt", *NET, "-workers", "0"]
    for extra in ([], ["-scales", "1,1.5"]):
        assert main([*command, *extra]) == 0
        plain = means(capsys)
        assert main([*command, *extra, "-engine", "onnxruntime"]) == 0
        assert means(capsys) == pytest.approx(plain, abs=1e-4)


def test_what_a_precision_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are scored; the table holds both and the difference."""
    command = ["test", "-model", "test.prototxt", *NET, "-workers", "0"]
    assert main([*command, *INT8, "lmdb", "-engine", "onnxruntime"]) == 0
    out, log = capsys.readouterr()
    found = [float(x) for x in re.findall(r"mAP \(\w+\) = (\S+)", log)]
    assert len(found) == 6
    rows = [line.split()[-3:] for line in out.splitlines()[1:]]
    assert [float(row[0]) for row in rows] == pytest.approx(found[:3], abs=1e-4)
    assert [float(row[1]) for row in rows] == pytest.approx(found[3:], abs=1e-4)
    costs = [a - b for a, b in zip(found[:3], found[3:], strict=True)]
    assert [float(row[2]) for row in rows] == pytest.approx(costs, abs=2e-4)


def test_the_table() -> None:
    lines = format_cost({"a": 0.8633, "long": 0.5}, {"a": 0.8625, "long": 0.51}, "int8")
    assert lines.splitlines()[1:] == [
        "a        0.8633    0.8625   +0.0008",
        "long     0.5000    0.5100   -0.0100",
    ]


@pytest.mark.parametrize("model", ["deploy.prototxt", "test.prototxt"])
def test_times_beside_the_plain_net(
    folder: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    command = ["time", "-model", model, "-workers", "0", "-iterations", "2", "-engine", "torch"]
    assert main(command) == 0
    log = capsys.readouterr().err
    assert "Average Forward pass: " in log
    assert re.search(r"Average Forward pass with torch \S+: \S+ ms\.", log)
    assert re.search(r"Speed-up: \d", log)
    assert main([*command, "-phase", "TRAIN"]) == 2
    assert "-engine excludes -phase TRAIN" in capsys.readouterr().err


def test_values_that_are_not_finite_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tiny_detector()
    dict(net.layer_blobs())["f"][0].data.fill_(3e38)  # finite, but not their sums
    save_binary(net, "w.caffemodel")
    command = ["time", "-model", "deploy.prototxt", *NET, "-engine", "onnxruntime", "-iterations=1"]
    assert main([*command, *INT8, "pictures"]) == 2
    assert re.search("int8: blob '.*' has values .* no finite", capsys.readouterr().err)


@pytest.mark.parametrize("has", [True, False])
def test_bf16_is_said_to_be_no_use_without_the_instructions(
    has: bool, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe_ssd.scoring.engine_choice.has_bfloat16", lambda device: has)
    detections("-precision", "bf16", "-engine", "torch")
    assert ("no instructions for bf16" in capsys.readouterr().err) != has
