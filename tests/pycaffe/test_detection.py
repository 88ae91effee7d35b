"""A detector on pictures: input, rows of output, drawing, and the demo script."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import caffe
import cv2
import numpy as np
import pytest
from caffe.models import detection, dsod_recipes
from caffe.models.detection import Detection
from caffe.models.recipe import make_nets

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [0, 2, 0.6, 0.1, 0.2, 0.5, 0.9],
    [0, 1, 0.9, 0.25, 0.5, 0.75, 1.2],
    [0, 1, 0.3, 0.0, 0.0, 1.0, 1.0],
]


class FakeBlob:
    def __init__(self, *shape: int) -> None:
        self.data = np.zeros(shape, np.float32)

    def reshape(self, *shape: int) -> None:
        self.data = np.zeros(shape, np.float32)


class FakeNet:
    """Gives fixed rows whatever the picture."""

    inputs = ("image",)

    def __init__(self, rows: list[list[float]], *, shape: tuple[int, ...] = (2, 3, 4, 6)) -> None:
        self.blobs = {"image": FakeBlob(*shape)}
        self.rows = rows

    def forward(self) -> dict[str, Any]:
        return {"out": np.array(self.rows, np.float32)[None, None]}


def picture(height: int = 40, width: int = 60) -> Any:
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = (10, 20, 30)
    return image


def test_input_is_resized_bgr_without_the_mean() -> None:
    net = FakeNet(ROWS)
    image = picture()
    detection.detect_image(net, image, mean=(1, 2, 3))
    data = net.blobs["image"].data
    assert data.shape == (1, 3, 4, 6)
    for channel, value in enumerate((9, 18, 27)):
        assert (data[0, channel] == value).all()
    assert (image == picture()).all()


def test_rows_are_filtered_and_sorted() -> None:
    found = detection.detect_image(FakeNet(ROWS), picture(), threshold=0.5)
    assert [(each.label, round(each.score, 3)) for each in found] == [(1, 0.9), (2, 0.6)]
    assert found[0].box_px(height=40, width=60) == (15, 20, 45, 40)


def test_nothing_found() -> None:
    nothing = FakeNet([[0, -1, -1, -1, -1, -1, -1]])
    assert detection.detect_image(nothing, picture(), threshold=-2) == []
    assert detection.format_table([], None, 40, 60) == "nothing found"


def test_unfit_nets() -> None:
    with pytest.raises(ValueError, match=r"input must be \(N, 3, H, W\), it is \(2, 1, 4, 6\)"):
        detection.detect_image(FakeNet(ROWS, shape=(2, 1, 4, 6)), picture())
    with pytest.raises(ValueError, match=r"rows of 7 .* it is \(1, 1, 1, 5\)"):
        detection.detect_image(FakeNet([[1, 2, 3, 4, 5]]), picture())


def test_drawing_leaves_the_picture_alone() -> None:
    image = picture(90, 120)
    found = [Detection(1, 0.9, 0.25, 0.5, 0.75, 0.8), Detection(2, 0.8, -0.5, 0.0, 0.4, 1.5)]
    drawn = detection.draw_detections(image, found, {1: "cat"})
    assert (image == picture(90, 120)).all()
    assert drawn.shape == image.shape
    assert tuple(drawn[72, 60]) == detection.class_colour(1)  # its lower edge
    assert tuple(drawn[60, 48]) == detection.class_colour(2)  # its right edge


def test_colours_differ() -> None:
    assert len({detection.class_colour(label) for label in range(81)}) == 81


def test_table() -> None:
    found = [Detection(1, 0.9, 0.25, 0.5, 0.75, 1.2), Detection(7, 0.5, 0, 0, 1, 1)]
    lines = detection.format_table(found, {1: "a long name"}, 40, 60).splitlines()
    assert lines[0].split() == ["class", "score", "xmin", "ymin", "xmax", "ymax"]
    assert lines[1].split() == ["a", "long", "name", "0.900", "15", "20", "45", "40"]
    assert lines[2].split() == ["7", "0.500", "0", "0", "60", "40"]
    assert len({len(line) for line in lines}) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.prototxt"
    broken.write_text("layer { nme: 'x' }")
    with pytest.raises(ValueError, match=r"no file gone.jpg"):
        detection.read_image("gone.jpg")
    with pytest.raises(ValueError, match="is no picture"):
        detection.read_image(str(broken))
    with pytest.raises(ValueError, match=r"no file gone.caffemodel"):
        detection.open_net(str(broken), "gone.caffemodel")
    with pytest.raises(ValueError, match=r"no net definition: .*nme"):
        detection.open_net(str(broken), str(broken))


def write_tiny_model(folder: Path) -> tuple[Path, Path]:
    """Write a tiny DSOD as generated, result files and all, and random weights."""
    deploy = make_nets(dsod_recipes.dsod_pascal("tiny"), str(folder / "results"))["deploy"]
    model, weights = folder / "deploy.prototxt", folder / "tiny.caffemodel"
    model.write_text(str(deploy))
    plain = type(deploy)()
    plain.CopyFrom(deploy)
    plain.layer[-1].detection_output_param.ClearField("save_output_param")
    bare = folder / "bare.prototxt"
    bare.write_text(str(plain))
    net = caffe.Net(str(bare), caffe.TEST)
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        if len(blobs) == 3:  # BatchNorm: unit statistics
            blobs[0].data[...], blobs[1].data[...], blobs[2].data[...] = 0, 1, 1
        elif "mbox" in name and len(blobs) == 1:
            blobs[0].data[...] = 0.1 * rng.standard_normal(blobs[0].data.shape)
    net.save(str(weights))
    return model, weights


def test_demo_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, weights = write_tiny_model(tmp_path)
    labels = tmp_path / "labels.prototxt"
    labels.write_text("item { name: 'thing' label: 1 display_name: 'a thing' }")
    image = np.random.default_rng(1).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "street.png"), image)
    script = str(ROOT / "examples" / "dsod" / "DSOD300_detection_demo.py")
    flags = ["--model", str(model), "--weights", str(weights), "--label-map", str(labels)]
    flags += ["--image", str(tmp_path / "street.png"), "--threshold", "0.01"]
    monkeypatch.setattr(sys, "argv", [script, *flags])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "xmin" in shown
    assert shown.endswith(f"wrote {tmp_path / 'street_detections.png'}\n")
    drawn = cv2.imread(str(tmp_path / "street_detections.png"))
    assert drawn is not None
    assert drawn.shape == image.shape
    assert not (drawn == image).all()
    assert not (tmp_path / "results").exists()
