"""The truth about a test set from XML files, a COCO file and a database."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.errors import DataError, FileError
from caffe_ssd.evaluate.annotations import (
    categories_of,
    read_coco_annotations,
    read_image_list,
    read_lmdb_annotations,
    read_voc_annotations,
)
from caffe_ssd.evaluate.results import Detection, ImageSize, read_name_sizes
from caffe_ssd.evaluate.test_set import AnnotatedObject, make_test_set
from caffe_ssd.proto.label_map import read_label_map
from tests.support.blank import blank_bccd, converted
from tests.support.golden import GOLDEN

XML = """<annotation><size><width>500</width><height>400</height></size>
<object><name>cat</name><bndbox><xmin>45.7</xmin><ymin>10</ymin><xmax>100</xmax><ymax>200</ymax>
</bndbox><difficult>1</difficult></object>
<object><name>dog</name><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax>
<ymax>2</ymax></bndbox></part><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>
<object><name>bird</name></object></annotation>"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one.xml").write_text(XML)
    (tmp_path / "two.xml").write_text(XML.split("<object>")[0] + "</annotation>")
    return tmp_path


def test_xml(folder):
    """`difficult` counts after the box too, fractions stay, parts are no objects."""
    test_set = read_voc_annotations(folder, ["one", "two"])
    assert test_set.images[1] == ImageSize(name="two", height=400, width=500)
    assert test_set.categories == {"cat": "cat", "dog": "dog"}
    assert test_set.objects.boxes_px.tolist() == [
        pytest.approx([45.7, 10, 54.3, 190]),
        [3, 4, 47, 56],
    ]
    assert test_set.objects.is_difficult.tolist() == [True, False]
    assert test_set.num_objects() == {"cat": 0, "dog": 1}


def test_xml_with_given_sizes_and_classes(folder, caplog):
    (folder / "one.xml").write_text(XML.replace("<size>", "<sizes>").replace("</size>", "</sizes>"))
    sizes = [ImageSize(name="one", height=40, width=50)]
    caplog.set_level(logging.WARNING)
    test_set = read_voc_annotations(folder, ["one"], sizes=sizes, categories={"dog": "Dog"})
    assert test_set.images == tuple(sizes)
    assert test_set.objects.image.tolist() == [0]
    assert "not scored: cat" in caplog.text
    with pytest.raises(DataError, match=r"one.xml: no size of the image; a name-size file"):
        read_voc_annotations(folder, ["one"])


def test_xml_errors(folder):
    with pytest.raises(FileError, match=r"Could not open file .*three\.xml"):
        read_voc_annotations(folder, ["three"])
    (folder / "one.xml").write_text(XML.replace(">45.7<", ">left<"))
    with pytest.raises(DataError, match=r"one.xml: <xmin> of a box is 'left', not a number"):
        read_voc_annotations(folder, ["one"])
    (folder / "one.xml").write_text(XML[:90])
    with pytest.raises(DataError, match=r"one.xml: not a readable XML file"):
        read_voc_annotations(folder, ["one"])
    with pytest.raises(DataError, match=r"no annotated object at all, so nothing can be scored"):
        read_voc_annotations(folder, ["two", "two"])
    (folder / "one.xml").write_text(XML.replace("500", "inf"))
    with pytest.raises(DataError, match=r"one.xml: no size of the image"):
        read_voc_annotations(folder, ["one"])
    (folder / "one.xml").write_text(XML)
    with pytest.raises(DataError, match=r"image 'one' stands twice"):
        read_voc_annotations(folder, ["one", "one"])


def test_image_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("JPEGImages/a.b.jpg Annotations/a.b.xml\n\n2008_000001 -1\nv1.5 300 400\n")
    assert read_image_list(path) == ["a.b", "2008_000001", "v1.5"]
    path.write_text("\n")
    with pytest.raises(DataError, match="no names of images"):
        read_image_list(path)


def coco_file(tmp_path, **changes):
    content = {
        "images": [{"id": 42, "height": 30, "width": 40}, {"id": 7, "height": 35, "width": 45}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": 5, "image_id": 42, "category_id": 1, "bbox": [1.5, 2, 3, 4.25], "area": 9.5},
            {"id": 6, "image_id": 7, "category_id": 18, "bbox": [0, 0, 9, 8], "iscrowd": 1},
        ],
        **changes,
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco(tmp_path):
    test_set = read_coco_annotations(coco_file(tmp_path))
    assert [image.name for image in test_set.images] == ["7", "42"]
    assert test_set.categories == {"18": "dog", "1": "person"}
    objects = test_set.objects
    assert objects.image.tolist() == [1, 0]
    assert objects.boxes_px.tolist() == [[1.5, 2, 3, 4.25], [0, 0, 9, 8]]
    assert objects.areas_px.tolist() == [9.5, 72]
    assert objects.is_difficult.tolist() == [False, True]


def test_coco_errors(tmp_path):
    with pytest.raises(DataError, match="not an annotation file of COCO: KeyError 'images'"):
        read_coco_annotations(_written(tmp_path / "a.json", "{}"))
    strange = [{"image_id": 42, "category_id": 3, "bbox": [0, 0, 9, 8]}]
    with pytest.raises(DataError, match="image_id 42 and category_id 3, which are not both listed"):
        read_coco_annotations(coco_file(tmp_path, annotations=strange))
    with pytest.raises(DataError, match="no annotated object at all"):
        read_coco_annotations(coco_file(tmp_path, annotations=[]))
    for box in ("[1, 2, 3, 1e999]", "[1, 2, 3, NaN]", "[1, 2, 3]", '[1, 2, 3, "wide"]'):
        path = coco_file(tmp_path)
        _written(path, path.read_text().replace("[1.5, 2, 3, 4.25]", box))
        with pytest.raises(DataError, match=r"instances\.json: not a"):
            read_coco_annotations(path)
    with pytest.raises(DataError, match="the test set has no images"):
        read_coco_annotations(coco_file(tmp_path, images=[], annotations=[]))


def _written(path, text):
    path.write_text(text)
    return path


def test_a_data_base_holds_what_the_files_do(tmp_path):
    label_map = read_label_map(GOLDEN / "bccd" / "labelmap_bccd.prototxt")
    sizes = read_name_sizes(GOLDEN / "bccd" / "test_name_size.txt")
    data_set = blank_bccd(tmp_path / "bccd")
    source = LmdbSource(converted(data_set, "test", tmp_path / "lmdb"))
    categories = categories_of(label_map)
    assert list(categories) == ["RBC", "WBC", "Platelets"]
    names = read_image_list(GOLDEN / "bccd" / "test.txt")
    stored = read_lmdb_annotations(source, label_map, sizes)
    written = read_voc_annotations(GOLDEN / "bccd" / "Annotations", names, categories=categories)
    assert stored.images == written.images
    assert stored.num_objects() == written.num_objects() == {"RBC": 805, "WBC": 71, "Platelets": 69}
    for test_set in (stored, written):
        objects = test_set.objects
        assert np.array_equal(objects.boxes_px, np.trunc(objects.boxes_px))
    assert _rows(stored) == _rows(written)
    with pytest.raises(DataError, match="has 72 records, but the name-size file 71 lines"):
        read_lmdb_annotations(source, label_map, sizes[1:])


def _rows(test_set):
    objects = test_set.objects
    columns = (objects.image, objects.category, *objects.boxes_px.T, objects.is_difficult)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def test_strangers_are_refused():
    images = [ImageSize(name="a", height=30, width=40)]
    test_set = make_test_set(images, {"cat": "cat"}, [])
    with pytest.raises(DataError, match=r"r.json: image 'b' is not in the test set of 1 images"):
        test_set.found([Detection("b", "cat", 0.5, 0, 0, 1, 1)], source="r.json")
    with pytest.raises(DataError, match=r"r.json: category 'dog' is not among those.*: cat"):
        test_set.found([Detection("a", "dog", 0.5, 0, 0, 1, 1)], source="r.json")


def test_objects_of_other_categories_are_left_out():
    images = [ImageSize(name="a", height=30, width=40)]
    objects = [AnnotatedObject("a", "dog", 0, 0, 1, 1, False)]
    assert len(make_test_set(images, {"cat": "cat"}, objects).objects.image) == 0
