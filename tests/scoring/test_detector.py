"""`caffe_ssd.Detector`: pictures in, detections out, also for several threads."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe_ssd
from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.scoring.picture_detector import PictureDetector
from tests.data.databases import picture
from tests.support.tiny_detector import tiny_detector

NAMES = {1: "cat", 2: "dog"}


def made(**options: object) -> caffe_ssd.Detector:
    given: dict[str, object] = {"engine": "none", "labels": "labels.prototxt", "scale": 1 / 64}
    return caffe_ssd.Detector("deploy.prototxt", "w.caffemodel", **(given | options))  # type: ignore[arg-type]


def test_importing_the_package_is_light() -> None:
    program = "import sys, caffe_ssd; print('torch' in sys.modules, 'Detector' in dir(caffe_ssd))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert output.stdout.split() == ["False", "True"], output.stderr
    with pytest.raises(AttributeError, match="no attribute 'Detecter'"):
        caffe_ssd.Detecter  # noqa: B018


def test_files_folders_and_arrays(house: Path) -> None:
    """Folders are walked through by name; the numbers are those of the net."""
    array = picture(seed=9)
    stream = list(made(batch=2).stream(["pictures/b.jpg", Path("pictures"), array]))
    assert [found.source for _, found in stream] == [
        "pictures/b.jpg",
        "pictures/a.png",
        "pictures/b.jpg",
        "pictures/more/c.png",
        "array 4",
    ]
    assert stream[-1][0] is array
    plain = PictureDetector(tiny_detector(), scale=1 / 64)
    for pixels, found in stream:
        rows = plain.rows([pixels]).numpy()
        rows = rows[rows[:, 2] >= 0.5]
        rows = rows[np.argsort(-rows[:, 2], kind="stable")]
        assert len(found) == len(rows) > 0
        assert found.size == pixels.shape[:2]
        np.testing.assert_allclose(found.score, rows[:, 2], rtol=1e-5)
        np.testing.assert_allclose(found.box, rows[:, 3:], rtol=1e-4, atol=1e-5)
        assert found.names == [NAMES[int(label)] for label in rows[:, 1]]


def test_sources_without_end_are_taken_as_they_are_needed(house: Path) -> None:
    taken = []

    def camera():
        while True:
            taken.append(len(taken))
            yield picture(seed=1)

    stream = made(batch=2).stream(camera())
    assert len(list(islice(stream, 3))) == 3
    assert len(taken) <= 8
    stream.close()


def test_thresholds_and_names(house: Path) -> None:
    image = picture(seed=3)
    some, all_ = (made(threshold=t).detect(image) for t in (0.6, 0.0))
    assert 0 < len(some) < len(all_)
    assert min(some.score) >= 0.6
    assert len(made().detect(image, threshold=0.6)) == len(some)
    assert set(made(labels=["x", "y", "z"]).detect(image).names) <= {"y", "z"}
    assert set(made(labels={1: "one"}).detect(image).names) <= {"one", "2"}
    assert set(made(labels=None).detect(image).names) <= {"1", "2"}


def test_what_was_found_is_a_value(house: Path) -> None:
    image = picture(33, 57, seed=3)
    found = made(threshold=0.4).detect(image)
    first, last = found[0], found[-1]
    assert first.score == max(found.score)
    assert last.score == min(found.score)
    assert [each.name for each in found] == found.names
    left, top, right, bottom = first.box_px
    assert 0 <= left <= right <= 57
    assert 0 <= top <= bottom <= 33
    assert first.box_px == tuple(
        round(min(max(value, 0), 1) * side)
        for value, side in zip(first.box, (57, 33, 57, 33), strict=True)
    )
    entry = json.loads(json.dumps(found.to_dict()))
    assert (entry["width"], entry["height"]) == (57, 33)
    assert entry["detections"][0]["box"] == pytest.approx(first.box)
    assert repr(found).splitlines()[0] == f"array 0 (57 x 33): {len(found)} objects"
    assert first.name in repr(found).splitlines()[2]
    assert found._repr_html_().count("<tr>") == len(found) + 1
    with pytest.raises(IndexError):
        found[len(found)]


def test_drawing(house: Path) -> None:
    image = picture(seed=3)
    found = made().detect(image)
    before = image.copy()
    drawn = found.draw()
    assert np.array_equal(image, before)
    assert not np.array_equal(drawn, image)
    assert np.array_equal(found.draw(image), drawn)
    for other in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert np.array_equal(other.box, found.box)
        with pytest.raises(UsageError, match=r"picture of array 0 is gone.*draw\(picture\)"):
            other.draw()
    del image
    gc.collect()
    with pytest.raises(UsageError, match="is gone"):
        found.draw()


def test_threads_share_a_detector(house: Path) -> None:
    detector = made(batch=3)
    groups = [[picture(30 + i, 40, seed=10 * i + k) for k in range(7)] for i in range(4)]
    serial = [[found.to_dict() for _, found in detector.stream(group)] for group in groups]

    def work(group: list[np.ndarray]) -> list[object]:
        return [found.to_dict() for _, found in detector.stream(group)]

    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, groups)) == serial


def test_several_looks(house: Path) -> None:
    image = picture(seed=3)
    plain = made().detect(image)
    same = made(multi_scale=caffe_ssd.MultiScale()).detect(image)
    assert same.to_dict() == plain.to_dict()
    looks = caffe_ssd.MultiScale(scales=(1, (48, 64)), flip=True)
    assert made(multi_scale=looks).detect(image).to_dict() != plain.to_dict()


def test_an_engine(house: Path) -> None:
    image = picture(seed=3)
    plain, quick = (made(engine=engine) for engine in ("none", "torch"))
    np.testing.assert_allclose(quick.detect(image).score, plain.detect(image).score, atol=1e-5)
    assert "engine torch" in repr(quick)
    assert "deploy.prototxt: input 32 x 48" in repr(plain)


def test_unreadable_pictures_are_named(house: Path) -> None:
    Path("pictures/broken.jpg").write_bytes(b"no picture")
    Path("empty").mkdir()
    detector = made(batch=1)
    stream = detector.stream(["pictures/a.png", "pictures/broken.jpg"])
    assert next(stream)[1].source == "pictures/a.png"
    with pytest.raises(DataError, match=r"pictures/broken\.jpg: "):
        next(stream)
    for source, kind, message in (
        ("gone.jpg", FileError, r"gone\.jpg: No such file"),
        ("empty", FileError, "folder empty holds no picture and no video"),
        (np.zeros((4, 5), np.uint8), DataError, "array 0 is no picture: .*; it is 4 x 5, uint8"),
        (np.zeros((4, 5, 3)), DataError, "it is 4 x 5 x 3, float64"),
    ):
        with pytest.raises(kind, match=message):
            detector.detect(source)
    with pytest.raises(DataError, match="source 0 is neither a path nor a numpy array"):
        list(detector.stream([3.5]))  # type: ignore[list-item]
    with pytest.raises(UsageError, match="more than one picture"):
        detector.detect([picture(), picture()])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:7"}, "no device 'cuda:7'; this machine has"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"engine": "fastest"}, "no engine named 'fastest'"),
        ({"precision": "fp8"}, "no precision named 'fp8'"),
        ({"precision": "int8"}, "int8 needs calibration"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"mean": (1.0, 2.0)}, "the mean has 2 values"),
    ],
)
def test_arguments_that_make_no_sense(
    house: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        made(**({"engine": "auto"} | options))
    assert " -" not in str(refusal.value)  # no flags


def test_a_picture_as_cameras_turn_it(house: Path) -> None:
    """Colours are BGR, as OpenCV reads them."""
    (pixels, _) = next(made().stream("pictures/a.png"))
    assert np.array_equal(pixels, cv2.imread("pictures/a.png"))
