"""Annotation readers: the vectors confirmed on the reference, its quirks, and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.errors import DataError
from lmdb_tools.annotations import read_annotations

LABELS = {"cat": 3, "dog": 4, "18": 7}

VECTOR = """<annotation><size><width>500</width><height>400</height></size>
<object><name>cat</name>
 <bndbox><xmin>45.7</xmin><ymin>10</ymin><xmax>100</xmax><ymax>200</ymax></bndbox>
 <difficult>1</difficult></object>
<object><name>dog</name><difficult>1</difficult>
 <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>600</xmax><ymax>0</ymax></bndbox>
 <part><name>head</name>
  <bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part></object>
<object><name>cat</name><difficult>0</difficult>
 <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>
</annotation>"""


def read(path, text, *, size=(400, 500), repair=False):
    """Read `text` as the kind of file that the path's suffix says."""
    path.write_text(text)
    return read_annotations(
        path,
        label_type=path.suffix[1:],
        image_size=size,
        name_to_label=LABELS,
        repair=repair,
    )


def as_tuples(annotations):
    return [
        (b.label, *(round(float(v), 6) for v in b.corners), b.difficult) for b in annotations.boxes
    ]


def objects(*inner, size="<size><width>500</width><height>400</height></size>"):
    return f"<annotation>{size}{''.join(f'<object>{o}</object>' for o in inner)}</annotation>"


BOX = "<bndbox><xmin>50</xmin><ymin>40</ymin><xmax>100</xmax><ymax>80</ymax></bndbox>"


def test_xml_vector(tmp_path):
    found = read(tmp_path / "a.xml", VECTOR)
    assert as_tuples(found) == [
        (3, 0, 0.025, 0.2, 0.5, False),
        (4, 0.002, 0.0025, 1.2, 0, True),
        (3, 0.002, 0.005, 0.006, 0.01, False),
    ]
    assert found.lost_flags == 1
    assert found.boxes[0].corners.dtype == np.float32
    text = "\n".join(found.warnings)
    assert "<xmin> '45.7' is not a whole number; 0 is used; --repair_xml reads it" in text
    assert "bounding box exceeds image boundary: xmax 600 of 'dog' is outside 0..500" in text
    assert "'dog' has swapped edges: 1, 1, 600, 0" in text
    assert len(found.warnings) == 3


def test_xml_vector_repaired(tmp_path):
    found = read(tmp_path / "a.xml", VECTOR, repair=True)
    assert as_tuples(found)[0] == (3, 0.0914, 0.025, 0.2, 0.5, True)
    assert found.lost_flags == 0


def test_json_vector(tmp_path):
    item = {"category_id": 18, "bbox": [10.5, 20, 30, 40.25], "iscrowd": 1}
    content = {"image": {"height": 100, "width": 200}, "annotation": [item]}
    found = read(tmp_path / "a.json", json.dumps(content))
    assert as_tuples(found) == [(7, 0.0525, 0.2, 0.2025, 0.6025, True)]
    del item["iscrowd"]
    assert not read(tmp_path / "a.json", json.dumps(content)).boxes[0].difficult


def test_txt(tmp_path):
    found = read(
        tmp_path / "a.txt", "9 50 40 100.5 80\n2 0 0 5e1 4 x 1 2 3 4\n5 1 2 3 4", size=(80, 200)
    )
    assert as_tuples(found) == [(9, 0.25, 0.5, 0.5025, 1, False), (2, 0, 0, 0.25, 0.05, False)]


def test_missing_file_means_no_objects(tmp_path):
    for kind in ("xml", "json", "txt"):
        found = read_annotations(
            tmp_path / "none", label_type=kind, image_size=(4, 5), name_to_label={}
        )
        assert (found.boxes, found.warnings) == ([], [])


def test_unopenable_txt_skips_the_image(tmp_path):
    assert read_annotations(tmp_path, label_type="txt", image_size=(4, 5), name_to_label={}) is None


def test_stated_size_wins_over_the_real_one(tmp_path):
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{BOX}"), size=(800, 1000))
    assert as_tuples(found) == [(3, 0.1, 0.1, 0.2, 0.2, False)]
    assert "states the size 400x500, the image has 800x1000" in found.warnings[0]


@pytest.mark.parametrize(
    "size", ["", "<size><width>500.0</width><height>400.0</height></size>", "<size/>"]
)
def test_without_a_whole_stated_size_the_real_one_is_used(tmp_path, size):
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{BOX}", size=size), size=(800, 1000))
    assert as_tuples(found) == [(3, 0.05, 0.05, 0.1, 0.1, False)]
    assert "states no size" in found.warnings[0]


def test_object_without_a_box_is_skipped(tmp_path):
    found = read(tmp_path / "a.xml", objects("<name>dog</name>", f"<name>cat</name>{BOX}"))
    assert [box.label for box in found.boxes] == [3]
    assert "object 'dog' has no <bndbox>" in found.warnings[0]


def test_difficult_is_exactly_1(tmp_path):
    inner = "<name>cat</name><difficult>{}</difficult>" + BOX
    found = read(tmp_path / "a.xml", objects(*(inner.format(t) for t in ("1", " 1", "true", "2"))))
    assert [box.difficult for box in found.boxes] == [True, False, False, False]


def test_coordinates_that_do_not_parse_become_0(tmp_path):
    box = "<bndbox><xmin> 50 </xmin><ymin>1e2</ymin><xmax>99999999999</xmax></bndbox>"
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{box}"))
    assert as_tuples(found) == [(3, 0.1, 0, 0, 0, False)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", objects(f"<name>cta</name>{BOX}"), r"'cta' is not in .*did you mean 'cat'\?"),
        ("a.xml", objects(f"<name>zebra</name>{BOX}"), "'zebra' .*the label map has: cat, dog, 18"),
        ("a.xml", objects(BOX), "has its <bndbox> before its <name>"),
        ("a.xml", "<annotation><size>", "a.xml: not a readable XML file: no element found: line 1"),
        ("a.xml", "<html/>", "the root element is <html>, not <annotation>"),
        (
            "a.xml",
            objects(size="<size><width>0</width><height>9</height></size>"),
            "the size is 9x0",
        ),
        ("a.json", "{", "a.json: not a readable JSON file"),
        ("a.json", "[]", "the JSON root is no object"),
        ("a.json", "{}", "no list named 'annotation'"),
        ("a.json", '{"annotation": [{"bbox": [1, 2, 3, 4]}]}', "annotation 0 has no category_id"),
        ("a.json", '{"annotation": [{"category_id": 18, "bbox": [1, 2, 3]}]}', "need .x, y, width"),
        (
            "a.json",
            '{"annotation": [{"category_id": 18, "bbox": [1, 2, 3, null]}]}',
            "something not a number",
        ),
        ("a.json", '{"annotation": [{"category_id": 81}]}', "'81' is not in the label map"),
        ("a.csv", "", "label_type is 'csv'; allowed: xml, json, txt"),
    ],
)
def test_errors(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, text)


@given(st.lists(st.tuples(*[st.integers(-(10**6), 10**6)] * 4), max_size=5), st.integers(1, 5000))
def test_normalises_in_single_precision(tmp_path_factory, corners, width):
    """As the reference does: float(pixel) / float(size), whatever the pixel."""
    tags = ("xmin", "ymin", "xmax", "ymax")
    boxes = [
        "<bndbox>" + "".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, c, strict=True)) + "</bndbox>"
        for c in corners
    ]
    size = f"<size><width>{width}</width><height>77</height></size>"
    text = objects(*(f"<name>cat</name>{box}" for box in boxes), size=size)
    found = read(tmp_path_factory.getbasetemp() / "h.xml", text)
    for box, pixels in zip(found.boxes, corners, strict=True):
        for value, pixel, limit in zip(box.corners, pixels, (width, 77) * 2, strict=True):
            assert value == np.float32(pixel) / np.float32(limit)
