"""Result and size files: what is written can be read, and wrong lines are named."""

from __future__ import annotations

import pytest

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.evaluate.results import (
    Detection,
    ImageSize,
    coco_text,
    ilsvrc_text,
    read_coco,
    read_ilsvrc,
    read_name_sizes,
    read_voc,
    voc_text,
)

DETECTIONS = [
    Detection("000012", "7", 0.5, 10.75, 20.5, 30.5, 40.25),
    Detection("000034", "7", 0.125, 0.0, 1.5, 2.25, 3.0),
]
# 10.75 + 30.5 is 41.25, yet the file says 10 + 30.
CUT = [
    Detection("000012", "7", 0.5, 10, 20, 30, 40),
    Detection("000034", "7", 0.125, 0, 1, 2, 3),
]


def test_voc_lines(tmp_path):
    path = tmp_path / "comp4_det_test_7.txt"
    path.write_text(voc_text(DETECTIONS))
    assert path.read_text() == "000012 0.5 10 20 40 60\n000034 0.125 0 1 2 4\n"
    assert read_voc(path, "7") == CUT


def test_ilsvrc_lines(tmp_path):
    path = tmp_path / "val.txt"
    path.write_text(ilsvrc_text(DETECTIONS))
    assert path.read_text().splitlines()[0] == "000012 7 0.5 10 20 40 60"
    assert read_ilsvrc(path) == CUT


def test_coco_keeps_the_decimals(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(coco_text(DETECTIONS))
    assert read_coco(path) == DETECTIONS
    path.write_text(coco_text([]))
    assert read_coco(path) == []


@pytest.mark.parametrize("line", ["a 0.5 1 2 3", "a high 1 2 3 4", "a"])
def test_a_wrong_line_is_named(line, tmp_path):
    path = tmp_path / "voc.txt"
    path.write_text(f"a 0.5 1 2 3 4\n{line}\n")
    with pytest.raises(DataError, match=r"voc\.txt:2: not a line of detection results"):
        read_voc(path, "cat")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"Could not open file .*gone\.json: No such file"):
        read_coco(tmp_path / "gone.json")


def test_json_that_is_no_result_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('[{"image": 3}]')
    with pytest.raises(DataError, match=r"other\.json: not a list of COCO detections"):
        read_coco(path)


def test_name_sizes_are_height_and_width(tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text("000012 333 500\n\n0034 375 1242\n")
    assert read_name_sizes(path) == (
        ImageSize(name="000012", height=333, width=500),
        ImageSize(name="0034", height=375, width=1242),
    )


@pytest.mark.parametrize("line", ["a 333", "a 333 x", "a 0 500", "a -1 500"])
def test_a_wrong_size_is_named(line, tmp_path):
    path = tmp_path / "sizes.txt"
    path.write_text(f"b 1 2\n{line}\n")
    with pytest.raises(DataError, match=r"sizes\.txt:2: "):
        read_name_sizes(path)
