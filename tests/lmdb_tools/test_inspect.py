"""The inspector: what it counts, what it calls broken, what it draws."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from caffe_ssd.datasets.summary import summarise
from caffe_ssd.errors import DataError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from lmdb_tools import __main__ as index
from lmdb_tools.contact_sheet import DrawnBox, class_colour, draw_boxes, tile_images
from lmdb_tools.database import new_database
from lmdb_tools.images import encode
from lmdb_tools.inspect import contact_sheet, main


def record(*boxes, height=40, width=60):
    message = AnnotatedDatum(type=AnnotatedDatum.BBOX)
    message.datum.channels, message.datum.height, message.datum.width = 3, height, width
    message.datum.data = encode(np.full((40, 60, 3), 128, np.uint8), "png")
    message.datum.encoded = True
    for label, difficult, corners in boxes:
        box = message.annotation_group.add(group_label=label).annotation.add().bbox
        box.xmin, box.ymin, box.xmax, box.ymax = corners
        box.difficult = difficult
    return message.SerializeToString()


@pytest.fixture
def database(tmp_path):
    values = [
        record((1, False, (0, 0, 0.5, 0.5)), (1, True, (0.5, 0.5, 1.25, 1))),
        record((2, False, (0.1, 0.1, 0.1, 0.9))),
        record(),
        b"\xff no message",
        record(height=60, width=40),
        AnnotatedDatum(datum={"encoded": True, "data": b"no image"}).SerializeToString(),
    ]
    with new_database(tmp_path / "db") as writer:
        for i, value in enumerate(values):
            writer.put(f"{i}_key", value)
    return tmp_path / "db"


def test_summary(database):
    found = summarise(database)
    assert found.num_records == 6
    assert found.shapes == {(40, 60, 3): 3}
    assert found.boxes_of == {1: 2, 2: 1}
    assert found.difficult_of[1] == 1
    assert found.images_of == {1: 1, 2: 1}
    assert found.boxes_per_image == {2: 1, 1: 1, 0: 1}
    assert (found.num_empty, found.num_outside) == (1, 1)
    assert found.scales[0] == pytest.approx(0.5)
    faults = dict(found.broken)
    assert faults["3_key"] == "is no AnnotatedDatum"
    assert faults["4_key"] == "states 60x40 but its image is 40x60 (rotated?)"
    assert "cannot be decoded" in faults["5_key"]


def test_command_line(database, tmp_path, capsys):
    (tmp_path / "map.prototxt").write_text('item { name: "n1" label: 1 display_name: "cat" }')
    argv = [str(database), "--label-map", str(tmp_path / "map.prototxt")]
    assert main([*argv, "--output", str(tmp_path / "grid.png"), "--show", "5"]) == 1
    captured = capsys.readouterr()
    assert "6 records, 3 boxes" in captured.out
    assert "cat" in captured.out
    assert "broken: 3_key is no AnnotatedDatum" in captured.out
    assert "3 records are broken" in captured.err
    assert cv2.imread(str(tmp_path / "grid.png")) is not None
    assert main([*argv, "--output", str(tmp_path / "grid.tif")]) == 1
    assert "names ending in .png or .jpg" in capsys.readouterr().err


def test_missing_database(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_nothing_to_draw(tmp_path):
    with new_database(tmp_path / "db") as writer:
        writer.put("a", b"\xff")
    with pytest.raises(DataError, match="no image to draw"):
        contact_sheet(tmp_path / "db", 3, {})


def test_drawing():
    image = np.full((40, 60, 3), 128, np.uint8)
    before = image.copy()
    box = DrawnBox(label=1, text="cat", corners=np.array([0.5, 0.5, 0.9, 0.9], np.float32))
    tile = draw_boxes(image, [box], 120)
    assert tile.shape == (80, 120, 3)
    assert tuple(tile[60, 60]) == class_colour(1)
    assert tuple(tile[10, 10]) == (128, 128, 128)
    np.testing.assert_array_equal(image, before)
    wild = DrawnBox(label=2, text="", corners=np.float32([np.nan, -5, 9, 0]), dashed=True)
    sheet = tile_images([draw_boxes(image, [wild] * 9, 120), tile], 120, {1: "cat", 2: "dog"})
    assert sheet.shape[1] == 2 * 128 + 8


def test_index_names_only_tools_that_are_there(capsys):
    assert index.main() == 0
    out = capsys.readouterr().out
    for tools in index.TOOLS.values():
        for name in tools:
            module = __import__(f"lmdb_tools.{name}", fromlist=["main"])
            assert callable(module.main)
            assert name in out
