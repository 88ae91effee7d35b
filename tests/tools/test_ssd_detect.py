"""ssd_detect: lines as the reference writes them, of a tiny detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary
from caffe_ssd.proto.binary import write_binary
from caffe_ssd.proto.caffe_pb2 import BlobProto
from caffe_ssd.scoring.picture_detector import PictureDetector
from caffe_ssd.tools import ssd_detect
from tests.support.tiny_detector import BODY, INPUT, tiny_detector

NET = ["net.prototxt", "net.caffemodel"]
MEAN = (104.0, 117.0, 123.0)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(INPUT + BODY)
    save_binary(detector(), "net.caffemodel")
    for name in "ab":
        cv2.imwrite(f"{name}.png", picture(name))
    Path("list.txt").write_text("a.png\nb.png\n")


def detector(spread: float = 0.01) -> Net:
    """The tiny detector, for pixels that are not scaled."""
    net = tiny_detector()
    for name, blobs in net.layer_blobs():
        for blob in blobs if name == "f" else []:
            blob.data.mul_(spread)
    return net


def picture(name: str) -> np.ndarray:
    rng = np.random.default_rng(ord(name))
    small = rng.integers(0, 256, (5, 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (90, 50)))


def expected(name: str, image: np.ndarray, threshold: float, mean: tuple[float, ...]) -> list[str]:
    height, width = image.shape[:2]
    lines = []
    for row in PictureDetector(detector(), mean=mean).rows([image]).tolist():
        if row[2] >= threshold:
            size = (width, height, width, height)
            box = [int(np.float32(v) * np.float32(n)) for v, n in zip(row[3:], size, strict=True)]
            lines.append(f"{name} {int(row[1])} {row[2]:g} {' '.join(map(str, box))}")
    return lines


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert ssd_detect.main([*NET, "list.txt", "--confidence_threshold=0.4"]) == 0
    want = [line for name in "ab" for line in expected(f"{name}.png", picture(name), 0.4, MEAN)]
    assert len(want) > 4
    assert capsys.readouterr().out.splitlines() == want
    assert len({line.split()[1] for line in want}) == 2
    scores = [float(line.split()[2]) for line in want]
    assert scores != sorted(scores, reverse=True)  # the order is the net's: by class


def test_means(capsys: pytest.CaptureFixture[str]) -> None:
    blob = BlobProto(num=1, channels=3, height=1, width=2, data=[1, 3, 10, 30, 100, 300])
    write_binary("mean.binaryproto", blob)
    flags = ["--mean_file=mean.binaryproto", "--out_file", "found.txt"]
    assert ssd_detect.main([*flags, *NET, "list.txt"]) == 0
    means = (2.0, 20.0, 200.0)
    want = [line for name in "ab" for line in expected(f"{name}.png", picture(name), 0, means)]
    assert Path("found.txt").read_text().splitlines() == want
    assert ssd_detect.main([*flags, "--mean_value=1", *NET, "list.txt"]) == 2
    assert "give -mean_file or -mean_value, not both" in capsys.readouterr().err
    assert ssd_detect.main(["--mean_value=1,x", *NET, "list.txt"]) == 2
    assert ssd_detect.main(["--mean_file=gone", *NET, "list.txt"]) == 1
    assert "-mean_file: Could not open file gone" in capsys.readouterr().err


def test_pictures_in_grey_and_with_transparency(capsys: pytest.CaptureFixture[str]) -> None:
    grey = picture("a")[:, :, 0]
    cv2.imwrite("a.png", grey)
    cv2.imwrite("b.png", np.dstack([picture("b"), grey]))
    assert ssd_detect.main([*NET, "list.txt", "--mean_value=5"]) == 0
    want = expected("a.png", np.dstack([grey] * 3), 0.01, (5.0,))
    want += expected("b.png", picture("b"), 0.01, (5.0,))
    assert capsys.readouterr().out.splitlines() == want


def test_video(capsys: pytest.CaptureFixture[str]) -> None:
    writer = cv2.VideoWriter("v.avi", cv2.VideoWriter.fourcc(*"MJPG"), 5, (90, 50))
    for name in "abc":
        writer.write(picture(name))
    writer.release()
    Path("list.txt").write_text("v.avi\n")
    assert ssd_detect.main(["--file_type=video", *NET, "list.txt"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(set(names)) == ["v.avi_000000", "v.avi_000001", "v.avi_000002"]
    Path("list.txt").write_text("net.prototxt\n")
    assert ssd_detect.main(["--file_type=video", *NET, "list.txt"]) == 1
    assert "video 'net.prototxt' cannot be opened by OpenCV" in capsys.readouterr().err


def test_boxes_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    save_binary(detector(spread=1), "net.caffemodel")
    assert ssd_detect.main([*NET, "list.txt"]) == 0
    boxes = [list(map(int, line.split()[3:])) for line in capsys.readouterr().out.splitlines()]
    assert max(map(max, boxes)) == 2**31 - 1


def test_a_fault_leaves_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("list.txt").write_text("a.png\ngone.png\n")
    assert ssd_detect.main([*NET, "list.txt", "--out_file=found.txt"]) == 1
    assert "Could not open file gone.png" in capsys.readouterr().err
    assert not Path("found.txt").exists()
    Path("list.txt").write_text("\n")
    assert ssd_detect.main([*NET, "list.txt"]) == 1
    assert "list.txt names no file" in capsys.readouterr().err
