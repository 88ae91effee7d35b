"""The synthetic data set: deterministic, with tight boxes and the promised content."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools import shapes, shapes_drawing
from lmdb_tools.shapes import main, make_shapes, picture_seed
from lmdb_tools.shapes_drawing import CLASSES, draw_picture, outline


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "out"
    make_shapes(root, num_train=12, num_test=5, size=96, seed=3)
    return root


def test_files(data_set):
    assert len(list((data_set / "JPEGImages").iterdir())) == 17
    assert (data_set / "ImageSets/Main/test.txt").read_text().split()[0] == "test_00000"
    lines = (data_set / "trainval.txt").read_text().splitlines()
    assert lines[0] == "JPEGImages/trainval_00000.jpg Annotations/trainval_00000.xml"
    assert len(lines) == 12
    labels = read_label_map(data_set / "labelmap_shapes.prototxt", strict=True)
    assert dict(labels.label_to_name) == dict(enumerate(("none_of_the_above", *CLASSES)))
    assert labels.label_to_display_name[0] == "background"


def test_sizes_and_boxes_agree_with_pictures(data_set):
    for line in (data_set / "test_name_size.txt").read_text().splitlines():
        stem, height, width = line.split()
        image = cv2.imread(str(data_set / "JPEGImages" / f"{stem}.jpg"))
        assert image.shape == (int(height), int(width), 3)
        root = ElementTree.parse(data_set / "Annotations" / f"{stem}.xml").getroot()
        assert root.findtext("size/width") == width
        for node in root.iterfind("object"):
            tags = [child.tag for child in node]
            assert tags.index("difficult") < tags.index("bndbox")
            xmin, ymin, xmax, ymax = (int(edge.text) for edge in node.find("bndbox"))
            assert 0 <= xmin < xmax <= int(width)
            assert 0 <= ymin < ymax <= int(height)


def test_same_seed_same_files(data_set, tmp_path):
    make_shapes(tmp_path / "again", num_train=12, num_test=5, size=96, seed=3)
    for path in data_set.rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(data_set)).read_bytes() == path.read_bytes()


def test_a_picture_does_not_depend_on_the_number_of_pictures(data_set, tmp_path):
    make_shapes(tmp_path / "few", num_train=1, num_test=2, size=96, seed=3)
    name = "JPEGImages/test_00001.jpg"
    assert (tmp_path / "few" / name).read_bytes() == (data_set / name).read_bytes()


def test_processes_draw_the_same(data_set, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "_WORTH_PROCESSES", 1)
    make_shapes(tmp_path / "out", num_train=12, num_test=5, size=96, seed=3, processes=2)
    for path in data_set.rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(data_set)).read_bytes() == path.read_bytes()


@pytest.mark.skipif(
    os.cpu_count() == 1 or not Path("/proc/self/task").exists(), reason="one core, or no /proc"
)
def test_processes_end_with_the_one_that_started_them(tmp_path):
    command = [sys.executable, "-m", "lmdb_tools.shapes", str(tmp_path / "out"), "--train", "9999"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as started:
        wait_for(lambda: any((tmp_path / "out").glob("JPEGImages/*.jpg")))
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        started.kill()
    assert children
    wait_for(lambda: not any(is_running(child) for child in children))


def wait_for(condition):
    """Return when the condition holds; fail after a minute and a half."""
    for _ in range(900):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("waited in vain")


def is_running(pid):
    """Whether there is such a process and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_seeds_and_splits_differ():
    which = [(1, "test", 0), (2, "test", 0), (1, "trainval", 0), (1, "test", 1)]
    pictures = [draw_picture(picture_seed(*choice), 64)[0].tobytes() for choice in which]
    assert len(set(pictures)) == 4


def test_content():
    """Over many pictures: every class, one to four shapes, the promised range of sizes."""
    names, counts, extents, difficult = set(), set(), [], 0
    for number in range(80):
        image, shapes = draw_picture(picture_seed(5, "trainval", number), 128)
        assert max(image.shape[:2]) == 128
        counts.add(len(shapes))
        for shape in shapes:
            names.add(shape.name)
            difficult += shape.difficult
            if not shape.truncated:
                xmin, ymin, xmax, ymax = shape.box_px
                extents.append(max(xmax - xmin, ymax - ymin) / min(image.shape[:2]))
    assert names == set(CLASSES)
    assert counts == {1, 2, 3, 4}
    assert 0.1 < min(extents) < 0.17
    assert 0.55 < max(extents) < 0.63
    assert 0 < difficult < 20


def test_the_box_is_tight():
    """A circle in whole pixels: the box of its drawn mask is that of its outline."""
    points = outline("circle")[0] * np.float32(20) + np.float32([40, 30])
    mask = shapes_drawing._rasterise([points], 64, 80)
    assert shapes_drawing._box_px(mask) == (20, 10, 60, 50)
    assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.01)


def test_refuses_a_full_folder(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(FileError, match="is not empty"):
        make_shapes(tmp_path, num_train=1, num_test=0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_train": 0, "num_test": 0}, "at least one picture"),
        ({"size": 8}, "size is 8"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_refuses_senseless_numbers(tmp_path, numbers, message):
    with pytest.raises(UsageError, match=message):
        make_shapes(tmp_path / "out", **numbers)


def test_command_line(tmp_path, capsys):
    assert main([str(tmp_path / "a"), "--train", "1", "--test", "1", "--size", "48"]) == 0
    assert main([str(tmp_path / "a"), "--train", "1"]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main([str(tmp_path / "b"), "--size", "1"]) == 2
