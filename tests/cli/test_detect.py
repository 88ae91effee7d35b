"""`caffe detect`: what it finds with a released model, what it prints, writes and refuses."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import pytest

from caffe_ssd.cli.main import main
from tests.data.databases import picture
from tests.support.golden import SHARED_GOLDEN, needs_shared
from tests.support.videos import write_video

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
        after = cv2.imread(str(tmp_path / "out" / f"qr{i + 1}.jpg"))
        assert before is not None
        assert after is not None
        assert (abs(before.astype(int) - after).max() > 60) == (len(want) > 0)


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "foreign.prototxt"
    model.write_text((QR / "detect.prototxt").read_text() + "\ncolour: 3\n")
    shutil.copyfile(QR / "images" / "qr4.jpg", tmp_path / "qr4.jpg")
    command = ["detect", str(tmp_path / "qr4.jpg"), "-model", str(model), *NET[2:]]
    assert main(command) == 1
    assert "colour" in capsys.readouterr().err
    assert main([*command, "-lenient"]) == 1
    assert "give -skip colour" in capsys.readouterr().err
    assert main([*command, "-lenient", "-skip", "colour"]) == 0
    assert (tmp_path / "detections" / "qr4.jpg").exists()
    assert main([*command, "-skip", "colour", "-mean_value", "1,2"]) == 2
    assert "the mean has 2 values" in capsys.readouterr().err


def detect(*words: str) -> int:
    net = ["-model", "deploy.prototxt", "-weights", "w.caffemodel", "-scale", "1/64"]
    return main(["detect", *words, *net, "-engine", "none", "-batch", "2"])


def test_a_few_pictures_are_tables_and_many_are_lines(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect("pictures", "-label_map", "labels.prototxt") == 0
    out, err = capsys.readouterr()
    assert out.count("xmin") == 3
    assert "pictures/more/c.png (" in out
    assert "3 images in " in err
    assert err.rstrip().endswith("-> detections")
    assert "-label_map" not in err
    for i in range(12):
        cv2.imwrite(f"pictures/{i}.png", picture(seed=i))
    write_video("v.avi", [picture(seed=1)] * 2)
    assert detect("pictures", "v.avi") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 15 + 2
    assert re.fullmatch(r"pictures/0\.png: (\d+ [12](, )?)+", lines[0])
    assert lines[-1].startswith("v.avi frame 1: ")
    assert "Classes are shown by their numbers; -label_map" in err
    assert "detections-2" in err


def test_a_large_job_in_parts(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("names").write_text("pictures/a.png\npictures/more/c.png\npictures/b.jpg\n")
    for part in ("1/2", "2/2"):
        flags = ["-list", "names", "-shard", part, "-output", "out", "-format", "jsonl,csv"]
        assert detect(*flags, "-text_only") == 0
    found = [Path(f"out/detections-{i}-of-2.jsonl").read_text().splitlines() for i in (1, 2)]
    assert [[json.loads(line)["image"] for line in part] for part in found] == [
        ["pictures/a.png", "pictures/b.jpg"],
        ["pictures/more/c.png"],
    ]
    assert not list(Path("out").rglob("*.png"))
    capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.StringIO("pictures/b.jpg\n"))
    assert detect("-", "-json", "b.json", "-text_only") == 0
    assert len(json.loads(Path("b.json").read_text())) == 1
    assert not Path("detections").exists()


def test_unreadable_pictures_are_left_out_and_told(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pictures/ab.jpg").write_bytes(b"no picture")
    assert detect("pictures", "-format", "jsonl") == 1
    err = capsys.readouterr().err
    assert "pictures/ab.jpg: cannot be decoded" in err
    assert "1 of 4 pictures could not be read, as pictures/ab.jpg" in err.splitlines()[-1]
    assert len(Path("detections/detections.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 2, "no SOURCE"),
        (("gone.jpg",), 1, "Could not open file gone.jpg"),
        (("pictures", "-threshold", "2"), 2, "-threshold: the threshold is 2"),
        (("pictures", "-format", "xml"), 2, "takes jsonl, csv, coco, voc; got 'xml'"),
        (("pictures", "-shard", "3/2"), 2, "takes i/n with 1 <= i <= n"),
        (("pictures", "-shard", "4/9"), 2, "-shard: shard 4/9 is empty"),
        (("pictures", "-output", "pictures"), 2, "is where pictures are read from"),
        (("pictures", "-json", "no/such.json"), 1, "Could not write file no/such.json"),
        (("93",), 1, "camera 93 cannot be opened"),
    ],
)
def test_wrong_use(
    house: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    before = sorted(Path("pictures").rglob("*"))
    assert detect(*words) == status
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert sorted(Path("pictures").rglob("*")) == before
