"""`caffe detect`: what it finds with a released model, where it writes, what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.cli.detect import plan_jobs
from caffe_ssd.cli.main import main
from caffe_ssd.errors import FileError, UsageError
from tests.support.golden import SHARED_GOLDEN, needs_shared

QR = SHARED_GOLDEN / "models" / "wechat_qrcode"
NET = ["-model", str(QR / "detect.prototxt"), "-weights", str(QR / "detect.caffemodel")]


@needs_shared
def test_pictures_in_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recorded boxes, in grey, with names, also where nothing is found."""
    labels = tmp_path / "labels.prototxt"
    labels.write_text("item { name: 'qr' label: 1 display_name: 'a code' }")
    pictures = [str(QR / "images" / f"qr{i}.jpg") for i in (1, 2, 4)]
    flags = ["-scale", "1/255", "-batch", "2", "-label_map", str(labels)]
    flags += ["-output", str(tmp_path / "out"), "-json", str(tmp_path / "out.json")]
    assert main(["detect", *pictures, *NET, *flags]) == 0
    assert capsys.readouterr().out.count("nothing found") == 1
    cases = json.loads((QR / "expected.json").read_text())["cases"]
    for entry, i in zip(json.loads((tmp_path / "out.json").read_text()), (0, 1, 3), strict=True):
        want = [row for row in cases[i]["detection_out"] if row[1] > 0]
        have = [[each["score"], *each["box"]] for each in entry["detections"]]
        assert len(have) == len(want)
        assert [entry["width"], entry["height"]] == cases[i]["image_size_wh"]
        for mine, theirs in zip(have, want, strict=True):
            assert mine == pytest.approx(theirs[2:], abs=1e-4)
        assert all(each["class"] == "a code" for each in entry["detections"])
        before = cv2.imread(pictures[(0, 1, 3).index(i)])
        after = cv2.imread(str(tmp_path / "out" / f"qr{i + 1}_detections.png"))
        assert before is not None
        assert after is not None
        assert np.array_equal(before, after) == (len(want) == 0)


@needs_shared
def test_another_input_size(tmp_path: Path) -> None:
    case = json.loads((QR / "expected.json").read_text())["cases"][-1]
    flags = ["-scale", "1/255", "-input_size", "300x416", "-json", str(tmp_path / "o.json")]
    flags += ["-output", str(tmp_path / "one.jpg")]
    assert main(["detect", str(QR / case["image"]), *NET, *flags]) == 0
    (entry,) = json.loads((tmp_path / "o.json").read_text())
    assert entry["detections"][0]["box"] == pytest.approx(case["detection_out"][0][3:], abs=1e-4)
    assert (tmp_path / "one.jpg").exists()


@needs_shared
def test_lenient_reads_nets_of_other_forks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "foreign.prototxt"
    model.write_text((QR / "detect.prototxt").read_text() + "\ncolour: 3\n")
    shutil.copyfile(QR / "images" / "qr4.jpg", tmp_path / "qr4.jpg")
    command = ["detect", str(tmp_path / "qr4.jpg"), "-model", str(model), *NET[2:]]
    assert main(command) == 1
    assert "colour" in capsys.readouterr().err
    assert main([*command, "-lenient"]) == 1
    assert "give -skip colour" in capsys.readouterr().err
    assert main([*command, "-lenient", "-skip", "colour"]) == 0
    assert (tmp_path / "qr4_detections.png").exists()
    assert main([*command, "-skip", "colour", "-mean_value", "1,2"]) == 2
    assert "the mean has 2 values" in capsys.readouterr().err


def test_where_pictures_go(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, b, other = (str(tmp_path / name) for name in ("a.jpg", "b.png", "sub/a.png"))
    assert [job.target.name for job in plan_jobs([a, b], None)] == [
        "a_detections.png",
        "b_detections.png",
    ]
    assert plan_jobs([a], str(tmp_path / "x.png"))[0].target == tmp_path / "x.png"
    assert plan_jobs([a], str(tmp_path / "new"))[0].target == tmp_path / "new/a_detections.png"
    with pytest.raises(UsageError, match=r"two pictures would be written to .*a_detections"):
        plan_jobs([a, other], str(tmp_path / "new"))
    with pytest.raises(UsageError, match="would replace a picture"):
        plan_jobs([a], a)
    with pytest.raises(UsageError, match=r"no picture format for '\.txt'"):
        plan_jobs([a], str(tmp_path / "x.txt"))
    with pytest.raises(FileError, match=r"gone\.jpg: there is no such file"):
        plan_jobs(["gone.jpg"], None)
