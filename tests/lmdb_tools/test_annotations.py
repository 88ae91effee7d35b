"""Annotation readers: the vectors confirmed on the reference, its quirks, and errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.data.annotation_files import AnnotationFile, ReadingRules, read_annotation_file
from caffe_ssd.data.samples import Annotations
from caffe_ssd.errors import DataError, FileError
from lmdb_tools.annotations import to_annotations

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


@dataclass
class Found:
    file: AnnotationFile
    annotations: Annotations

    @property
    def warnings(self):
        return self.file.warnings

    @property
    def faults(self):
        return self.file.faults

    @property
    def rows(self):
        columns = (self.annotations.labels, self.annotations.boxes, self.annotations.difficult)
        return [
            (label, *(round(value, 6) for value in corners), difficult)
            for label, corners, difficult in zip(*(c.tolist() for c in columns), strict=True)
        ]


def read(path, text, *, size=(400, 500), rules=None):
    """Read `text` as the kind of file that the path's suffix says."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    label_type = path.suffix[1:]
    file = read_annotation_file(path, label_type=label_type, rules=rules)
    annotations = to_annotations(file, label_type=label_type, image_size=size, name_to_label=LABELS)
    return Found(file, annotations)


AS_ORIGINAL = ReadingRules(as_original=True)


def objects(*inner, size="<size><width>500</width><height>400</height></size>"):
    return f"<annotation>{size}{''.join(f'<object>{o}</object>' for o in inner)}</annotation>"


BOX = "<bndbox><xmin>50</xmin><ymin>40</ymin><xmax>100</xmax><ymax>80</ymax></bndbox>"


def test_xml_vector_as_the_original_reads_it(tmp_path):
    found = read(tmp_path / "a.xml", VECTOR, rules=AS_ORIGINAL)
    assert found.rows == [
        (3, 0, 0.025, 0.2, 0.5, False),
        (4, 0.002, 0.0025, 1.2, 0, True),
        (3, 0.002, 0.005, 0.006, 0.01, False),
    ]
    assert found.annotations.instance_ids.tolist() == [0, 0, 1]
    assert found.annotations.boxes.dtype == np.float32
    assert +found.file.counts == {
        "difficult flags behind their box, not used": 1,
        "coordinates with decimals, read as 0": 1,
        "boxes that leave their image, stored as they are": 1,
        "boxes with swapped edges, stored as they are": 1,
    }
    text = "\n".join(found.warnings)
    assert "<xmin> '45.7' is not a whole number; 0 is used." in text
    assert "bounding box exceeds image boundary: xmax 600 of 'dog' is outside 0..500" in text
    assert "'dog' has swapped edges: 1, 1, 600, 0" in text
    assert len(found.warnings) == 3
    assert not found.faults


def test_xml_vector(tmp_path):
    """Decimals are read as they are meant; a late flag is lost unless it is asked for."""
    found = read(tmp_path / "a.xml", VECTOR)
    assert found.rows[0] == (3, 0.0914, 0.025, 0.2, 0.5, False)
    found = read(tmp_path / "a.xml", VECTOR, rules=ReadingRules(late_difficult=True))
    assert found.rows[0] == (3, 0.0914, 0.025, 0.2, 0.5, True)
    assert "difficult flags behind their box, not used" not in found.file.counts


def test_json_vector(tmp_path):
    item = {"category_id": 18, "bbox": [10.5, 20, 30, 40.25], "iscrowd": 1}
    content = {"image": {"height": 100, "width": 200}, "annotation": [item]}
    found = read(tmp_path / "a.json", json.dumps(content))
    assert found.rows == [(7, 0.0525, 0.2, 0.2025, 0.6025, True)]
    del item["iscrowd"]
    assert not read(tmp_path / "a.json", json.dumps(content)).annotations.difficult[0]


def test_txt(tmp_path):
    found = read(tmp_path / "a.txt", "3 50 40 100.5 80\n7 0 0\n5e1 4", size=(80, 200))
    assert found.rows == [(3, 0.25, 0.5, 0.5025, 1, False), (7, 0, 0, 0.25, 0.05, False)]
    assert not found.faults
    assert not read(tmp_path / "a.txt", "").faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("3,5,5,20,20", r"a.txt:1: expected 'label xmin ymin xmax ymax' in pixels, got '3,5,5,20"),
        ("3 5 5 20 20\n3 5 5 20", r"a.txt:2: expected .* got '3 5 5 20'"),
        ("cat 5 5 20 20", r"a.txt:1: expected .* got 'cat 5 5 20 20'"),
        ("3.5 5 5 20 20", r"a.txt:1: expected"),
        ("3 5 5 nan 20", r"a.txt:1: expected"),
        ("3 5 5 1e99 20", r"a.txt:1: expected"),
        ("0 5 5 20 20", r"label 0 is not in the label map; the label map has: 3, 4, 7"),
        ("9 5 5 20 20", r"label 9 is not in the label map"),
        ("3 0.5 0.5 0.2 0.3", r"a.txt: the box 0.5 0.5 0.2 0.3 of '3' is in fractions"),
        ("3 0.5 0.5 1 1", r"in fractions of the image, as YOLO's are"),
    ],
)
def test_faults_of_txt(tmp_path, text, fault):
    assert re.search(fault, "\n".join(read(tmp_path / "a.txt", text).faults))


def test_a_file_that_cannot_be_opened(tmp_path):
    for label_type in ("xml", "json", "txt"):
        with pytest.raises(FileError, match=r"Could not open file .*none: No such file"):
            read_annotation_file(tmp_path / "none", label_type=label_type)
        with pytest.raises(FileError, match="it is a folder"):
            read_annotation_file(tmp_path, label_type=label_type)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gbk", "shift_jis", "big5", "latin-1"])
def test_xml_in_other_encodings(tmp_path, encoding):
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + objects(f"<name>cat</name>{BOX}")
    if encoding != "latin-1":
        text = text.replace("<object>", "<object><owner>\u4e2d</owner>")
    assert read(tmp_path / "a.xml", text.encode(encoding)).rows == [(3, 0.1, 0.1, 0.2, 0.2, False)]


def test_xml_bombs(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>' + objects(f"<name>&c;</name>{BOX}")
    with pytest.raises(DataError, match=r"a\.xml: declares an entity, 'b'"):
        read(tmp_path / "a.xml", bomb)
    with pytest.raises(DataError, match="nested more than 64 deep"):
        read(tmp_path / "a.xml", "<annotation>" * 100_000)
    with pytest.raises(DataError, match="nested too deep"):
        read(tmp_path / "a.json", "[" * 100_000)


def test_stated_size_wins_over_the_real_one(tmp_path):
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{BOX}"), size=(800, 1000))
    assert found.rows == [(3, 0.1, 0.1, 0.2, 0.2, False)]
    assert "states the size 400x500, the image has 800x1000" in found.warnings[0]


@pytest.mark.parametrize(
    "size", ["", "<size><width>wide</width><height>400</height></size>", "<size/>"]
)
def test_without_a_whole_stated_size_the_real_one_is_used(tmp_path, size):
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{BOX}", size=size), size=(800, 1000))
    assert found.rows == [(3, 0.05, 0.05, 0.1, 0.1, False)]
    assert "states no size" in found.warnings[0]


def test_a_size_with_decimals(tmp_path):
    size = "<size><width>500.0</width><height>400.0</height></size>"
    text = objects(f"<name>cat</name>{BOX}", size=size)
    assert read(tmp_path / "a.xml", text, size=(800, 1000)).rows[0][1:3] == (0.1, 0.1)
    found = read(tmp_path / "a.xml", text, size=(800, 1000), rules=AS_ORIGINAL)
    assert found.rows[0][1:3] == (0.05, 0.05)


def test_object_without_a_box_is_skipped(tmp_path):
    found = read(tmp_path / "a.xml", objects("<name>dog</name>", f"<name>cat</name>{BOX}"))
    assert found.annotations.labels.tolist() == [3]
    assert "object 'dog' has no <bndbox>" in found.warnings[0]


def test_difficult(tmp_path):
    inner = "<name>cat</name><difficult>{}</difficult>" + BOX
    text = objects(*(inner.format(t) for t in ("1", " 1 ", "True", "yes", "0", "false", "")))
    found = read(tmp_path / "a.xml", text)
    assert found.annotations.difficult.tolist() == [True] * 4 + [False] * 3
    found = read(tmp_path / "a.xml", text, rules=AS_ORIGINAL)
    assert found.annotations.difficult.tolist() == [True] + [False] * 6
    found = read(tmp_path / "a.xml", objects(inner.format("2")))
    assert "<difficult> is '2'; allowed: 0, 1, true, false" in found.faults[0]


def test_coordinates_that_are_no_numbers(tmp_path):
    box = "<bndbox><xmin> 50 </xmin><ymin>1e1</ymin><xmax>99999</xmax></bndbox>"
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{box}"))
    assert found.rows == [(3, 0.1, 0.025, 199.998001, 0, False)]
    assert found.faults == [f"{tmp_path / 'a.xml'}: <ymax> of a box is missing"]
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{BOX.replace('100', 'inf')}"))
    assert "<xmax> of a box is 'inf', not a number" in found.faults[0]


def test_fractions_are_no_pixels(tmp_path):
    box = "<bndbox><xmin>.1</xmin><ymin>.1</ymin><xmax>.5</xmax><ymax>1</ymax></bndbox>"
    found = read(tmp_path / "a.xml", objects(f"<name>cat</name>{box}"))
    assert "the box 0.1 0.1 0.5 1 of 'cat' is in fractions" in found.faults[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", objects(f"<name>cta</name>{BOX}"), r"'cta' is not in .*did you mean 'cat'\?"),
        ("a.xml", objects(f"<name>zebra</name>{BOX}"), "'zebra' .*the label map has: cat, dog, 18"),
        ("a.xml", objects(BOX), "an <object> has no <name>"),
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
        (
            "a.json",
            '{"annotation": [{"category_id": 81, "bbox": [1, 2, 3, 4]}]}',
            "'81' is not in the label map",
        ),
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
    for box, pixels in zip(found.annotations.boxes, corners, strict=True):
        for value, pixel, limit in zip(box, pixels, (width, 77) * 2, strict=True):
            assert value == np.float32(pixel) / np.float32(limit)
