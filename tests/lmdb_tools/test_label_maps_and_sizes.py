"""create_label_map, get_image_size and the label maps kept in data/."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.errors import DataError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools import create_label_map, get_image_size
from lmdb_tools.create_label_map import label_map_from_lines
from tests.support.blank import drawn_shapes
from tests.support.golden import GOLDEN

DATA = Path(__file__).parents[2] / "data"
TOOLS = GOLDEN / "logs" / "tools"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], "labelmap_nobg.prototxt"), (["--include_background"], "labelmap.prototxt")],
)
def test_label_map_files_equal_the_references(flags, expected, tmp_path):
    out = tmp_path / "map.prototxt"
    assert create_label_map.main([*flags, str(TOOLS / "labels.txt"), str(out)]) == 0
    assert out.read_bytes() == (TOOLS / expected).read_bytes()


def items(labels):
    return [(item.name, item.label, item.display_name) for item in labels.item]


def test_fields():
    assert items(label_map_from_lines(["a", "b"])) == [("a", 0, "a"), ("b", 1, "b")]
    assert items(label_map_from_lines(["a 7", "b 5"])) == [("a", 7, "a"), ("b", 5, "b")]
    found = items(label_map_from_lines(["a"], include_background=True))
    assert found == [("none_of_the_above", 0, "background"), ("a", 1, "a")]


def test_every_delimiter_cuts():
    assert items(label_map_from_lines(["a,1;b c"], delimiter=",;")) == [("a", 1, "b c")]
    with pytest.raises(DataError, match="the label '' is no whole number"):
        label_map_from_lines(["a  b"])  # two spaces make an empty field between them


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1", "b"], ":2: 1 fields in 'b'; need 2 as in the first line"),
        (["a  1 b"], ":1: 4 fields in 'a  1 b'; need 1 to 3"),
        (["a one"], ":1: the label 'one' is no whole number"),
    ],
)
def test_label_map_errors(lines, message):
    with pytest.raises(DataError, match=message):
        label_map_from_lines(lines)


def test_label_map_command_line(tmp_path, capsys):
    assert create_label_map.main([]) == 2
    assert create_label_map.main([str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "Could not open file" in capsys.readouterr().err
    assert create_label_map.main(["--help"]) == 0


@pytest.mark.parametrize(
    ("ids", "expected"), [(False, "test_name_size.txt"), (True, "test_id_size.txt")]
)
def test_sizes_equal_the_references(ids, expected, tmp_path):
    flags = [f"--name_id_file={TOOLS}/test_name_id.txt"] if ids else []
    out, shapes = tmp_path / "sizes.txt", drawn_shapes(tmp_path / "shapes")
    assert get_image_size.main([*flags, f"{shapes}/", f"{TOOLS}/test.txt", str(out)]) == 0
    assert out.read_bytes() == (TOOLS / expected).read_bytes()


@pytest.mark.parametrize(
    ("ids", "lines", "message"),
    [
        (None, "a.b.png x\nmissing.png x\n", "missing.png: not a readable image"),
        ("other 1", "a.b.png x\n", "the name 'a.b' is not in the name-id file"),
        ("a.b 1 c 2", "a.b.png x\n", "2 names, but the list has 1 images"),
        ("a.b 1 a.b 2", "a.b.png x\n", "the name 'a.b' stands more than once"),
    ],
)
def test_size_errors_leave_no_file(tmp_path, capsys, ids, lines, message):
    cv2.imwrite(str(tmp_path / "a.b.png"), np.zeros((3, 5, 3), np.uint8))
    (tmp_path / "list.txt").write_text(lines)
    (tmp_path / "ids.txt").write_text(ids if ids is not None else "")
    flags = [] if ids is None else [f"--name_id_file={tmp_path}/ids.txt"]
    out = tmp_path / "out.txt"
    assert get_image_size.main([*flags, f"{tmp_path}/", f"{tmp_path}/list.txt", str(out)]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_voc_label_maps():
    labels = read_label_map(DATA / "VOC0712" / "labelmap_voc.prototxt", strict=True)
    assert sorted(labels.label_to_name) == list(range(21))
    names = [labels.label_to_name[i] for i in range(1, 21)]
    assert names == sorted(names)
    assert (names[0], names[-1]) == ("aeroplane", "tvmonitor")
    assert labels.label_to_display_name[0] == "background"
    first = (DATA / "VOC0712" / "labelmap_voc.prototxt").read_bytes()
    for folder in ("VOC0712Plus", "VOC12"):
        assert (DATA / folder / "labelmap_voc.prototxt").read_bytes() == first


def test_coco_label_map():
    labels = read_label_map(DATA / "coco" / "labelmap_coco.prototxt", strict=True)
    assert sorted(labels.label_to_name) == list(range(81))
    ids = [int(labels.label_to_name[i]) for i in range(1, 81)]
    assert set(range(1, 91)) - set(ids) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert ids == sorted(ids)
    names = labels.label_to_display_name
    assert (names[1], names[12], names[80]) == ("person", "stop sign", "toothbrush")
    assert labels.name_to_label["90"] == 80


def test_coco_voc_map():
    coco = read_label_map(DATA / "coco" / "labelmap_coco.prototxt").label_to_display_name
    voc = read_label_map(DATA / "VOC0712" / "labelmap_voc.prototxt").label_to_display_name
    lines = (DATA / "coco" / "coco_voc_map.txt").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    assert [int(row[1]) for row in rows] == list(range(21))
    assert all(voc[int(label)] == name for _, label, name in rows)
    same = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
    for number, _, name in rows:
        assert coco[int(number)].replace(" ", "") == same.get(name, name)
