"""Lists and databases of whole data sets: VOC layouts, COCO, BCCD end to end."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools import create_annoset, make_lists, make_lmdb, split_coco
from lmdb_tools.make_lists import make_lists as write_lists
from tests.support.blank import blank_bccd


def write_image(path, height=12, width=17):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def voc_folder(root, sets, name="cat"):
    """A VOC folder with one cat per image."""
    for image_set, stems in sets.items():
        for stem in stems:
            write_image(root / "JPEGImages" / f"{stem}.jpg", 12, 17 + len(stem))
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><object><name>{name}</name><bndbox><xmin>1</xmin><ymin>2</ymin>"
                "<xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
            )
        file = root / "ImageSets" / "Main" / f"{image_set}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{stem}\n" for stem in stems))


@pytest.fixture
def devkit(tmp_path):
    root = tmp_path / "VOCdevkit"
    first = [f"{i:06d}" for i in range(1, 9)]
    voc_folder(root / "VOC2007", {"trainval": first[:5], "test": first[5:]})
    voc_folder(root / "VOC2012", {"trainval": ["2008_1", "2008_2"], "test": ["2009_3"]})
    return root


def stems(path):
    return [line.split()[0].split("/")[-1][:-4] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("layout", "num_train", "test"),
    [
        ("voc0712", 7, ["000006", "000007", "000008"]),
        ("voc0712plus", 10, ["2009_3"]),
        ("voc12", 2, ["2009_3"]),
    ],
)
def test_voc_layouts(devkit, tmp_path, layout, num_train, test):
    folder = write_lists(layout, devkit, tmp_path / "lists")
    assert len(stems(folder / "trainval.txt")) == num_train
    assert stems(folder / "test.txt") == test
    lines = (folder / "test_name_size.txt").read_text().splitlines()
    assert lines == [f"{stem} 12 {17 + len(stem)}" for stem in test]
    first = (folder / "trainval.txt").read_text().splitlines()[0].split()
    assert all((devkit / path).is_file() for path in first)


def test_train_order_depends_on_the_seed_only(devkit, tmp_path):
    lists = [
        stems(write_lists("voc0712", devkit, tmp_path / str(i), seed=seed) / "trainval.txt")
        for i, seed in enumerate([0, 0, 1])
    ]
    assert lists[0] == lists[1]
    assert lists[0] != lists[2]
    assert lists[0] != sorted(lists[0])
    assert sorted(lists[0]) == sorted(lists[2])


def test_missing_folders_are_named_at_once(tmp_path):
    voc_folder(tmp_path / "VOC2007", {"trainval": ["a"]})
    with pytest.raises(FileError) as caught:
        write_lists("voc0712", tmp_path, tmp_path / "lists")
    message = str(caught.value)
    for path in ("VOC2007/ImageSets/Main/test.txt", "VOC2012/JPEGImages", "VOC2012/Annotations"):
        assert str(tmp_path / path) in message
    assert "VOC2007/JPEGImages" not in message
    assert not (tmp_path / "lists").exists()


def test_away_from_the_label_maps(devkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = r"no label map data/VOC0712/labelmap_voc\.prototxt; .*`caffe examples DIR`"
    with pytest.raises(FileError, match=wanted):
        make_lmdb.make_lmdb("voc0712", devkit)
    assert not (devkit / "VOC0712").exists()


def test_missing_image(tmp_path):
    voc_folder(tmp_path, {"trainval": ["a"], "test": ["b"]})
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"no image b in .*JPEGImages \(tried \.jpg"):
        write_lists("voc", tmp_path, tmp_path / "lists")


def test_names_with_spaces_are_refused(tmp_path):
    """A list's columns are separated by spaces: the image would silently be skipped."""
    line = ("my set/JPEGImages/c.jpg", "my set/Annotations/c.xml")
    with pytest.raises(DataError, match="cannot hold a name with a space"):
        make_lists._write_list(tmp_path / "x.txt", [line])


def test_generic_layout_needs_a_folder(tmp_path):
    with pytest.raises(UsageError, match="give a folder"):
        write_lists("voc", tmp_path)


def test_voc_in_one_go(devkit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [str(devkit), "--layout", "voc0712"]
    assert make_lmdb.main(argv) == 1
    assert "labelmap_voc.prototxt" in capsys.readouterr().err
    labels = tmp_path / "data" / "VOC0712" / "labelmap_voc.prototxt"
    labels.parent.mkdir(parents=True)
    labels.write_text('item { name: "cat" label: 8 }')
    assert make_lmdb.main(argv) == 0
    made = devkit / "VOC0712" / "lmdb" / "VOC0712_trainval_lmdb"
    assert len(LmdbSource(made)) == 7
    link = tmp_path / "examples" / "VOC0712" / "VOC0712_test_lmdb"
    assert link.is_symlink()
    assert len(LmdbSource(link)) == 3
    assert make_lmdb.main(argv) == 1
    assert "already exists" in capsys.readouterr().err
    assert make_lmdb.main([*argv, "--redo"]) == 0


def test_bccd_end_to_end(tmp_path):
    data_set = blank_bccd(tmp_path / "BCCD")
    lists = tmp_path / "bccd"
    made = make_lmdb.make_lmdb("voc", data_set, lists=lists, out=tmp_path)
    assert [(path.name, len(LmdbSource(path))) for path in made] == [
        ("bccd_trainval_lmdb", 292),
        ("bccd_test_lmdb", 72),
    ]
    for name in ("test.txt", "test_name_size.txt"):
        assert (lists / name).read_bytes() == (data_set / name).read_bytes()
    train = (lists / "trainval.txt").read_text().splitlines()
    assert sorted(train) == sorted((data_set / "trainval.txt").read_text().splitlines())
    labels = read_label_map(lists / "labelmap.prototxt")
    assert dict(labels.name_to_label) == {
        "none_of_the_above": 0,
        "Platelets": 1,
        "RBC": 2,
        "WBC": 3,
    }


def coco_file(path, subset, ids):
    images = [
        {"file_name": f"COCO_{subset}_{i:012d}.jpg", "id": i, "height": 12, "width": 17 + i}
        for i in ids
    ]
    objects = [
        {"id": 9, "image_id": i, "category_id": 90, "bbox": [1, 2, 3.5, 4], "segmentation": [[0]]}
        for i in ids[:1]
    ]
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": []}))


def test_coco_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, subset, ids in [
        ("train2014", "train2014", [1, 2, 3]),
        ("valminusminival2014", "val2014", [4]),
        ("minival2014", "val2014", [6, 5]),
    ]:
        coco_file(tmp_path / f"instances_{name}.json", subset, ids)
        for i in ids:
            write_image(tmp_path / "images" / subset / f"COCO_{subset}_{i:012d}.jpg", 12, 17 + i)
    files = [str(path) for path in sorted(tmp_path.glob("instances_*.json"))]
    assert split_coco.main([str(tmp_path), *files]) == 0
    one = json.loads(
        (tmp_path / "Annotations/train2014/COCO_train2014_000000000001.json").read_text()
    )
    assert one["annotation"] == [
        {"id": 9, "image_id": 1, "category_id": 90, "bbox": [1, 2, 3.5, 4]}
    ]
    lists = tmp_path / "data" / "coco"
    lists.mkdir(parents=True)
    (lists / "labelmap_coco.prototxt").write_text('item { name: "90" label: 80 }')
    train, minival = make_lmdb.make_lmdb("coco", tmp_path, out=tmp_path)
    assert (train.name, minival.name) == ("coco_train_lmdb", "coco_minival_lmdb")
    assert len(LmdbSource(train)) == 4
    assert (lists / "minival2014_name_size.txt").read_text() == "6 12 23\n5 12 22\n"
    assert (lists / "minival.txt").read_text().splitlines()[0] == (
        "images/val2014/COCO_val2014_000000000006.jpg "
        "Annotations/val2014/COCO_val2014_000000000006.json"
    )
    record = AnnotatedDatum.FromString(LmdbSource(minival).first())
    assert record.annotation_group[0].group_label == 80
    assert record.annotation_group[0].annotation[0].bbox.ymax == 0.5


def test_coco_test_dev(tmp_path, monkeypatch):
    """A test set without annotations: its file names the images."""
    monkeypatch.chdir(tmp_path)
    info = tmp_path / "image_info_test-dev2015.json"
    coco_file(info, "test2015", [7, 3])
    text = json.loads(info.read_text())
    del text["annotations"]
    info.write_text(json.dumps(text))
    for i in (7, 3):
        write_image(tmp_path / "images" / "test2015" / f"COCO_test2015_{i:012d}.jpg", 12, 17 + i)
    assert split_coco.main([str(tmp_path), str(info)]) == 0
    lists = tmp_path / "data" / "coco"
    lists.mkdir(parents=True)
    (lists / "labelmap_coco.prototxt").write_text('item { name: "90" label: 80 }')
    (made,) = make_lmdb.make_lmdb("coco_test_dev", tmp_path, out=tmp_path)
    assert (made.name, len(LmdbSource(made))) == ("coco_test-dev_lmdb", 2)
    assert (lists / "test-dev2015_name_size.txt").read_text() == "7 12 24\n3 12 20\n"
    record = AnnotatedDatum.FromString(LmdbSource(made).first())
    assert record.type == AnnotatedDatum.BBOX
    assert not record.annotation_group
    assert sorted(path.name for path in lists.glob("*.txt")) == [
        "test-dev.txt",
        "test-dev2015_name_size.txt",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a readable JSON"), ("[]", "root is no object"), ("{}", "no 'annotations'")],
)
def test_split_coco_errors(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        split_coco.split_coco(tmp_path, tmp_path / "a.json")


def test_split_coco_missing_file(tmp_path, capsys):
    assert split_coco.main([str(tmp_path), str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_create_annoset(devkit, tmp_path, capsys):
    lists = write_lists("voc12", devkit, tmp_path / "lists")
    (lists / "map.prototxt").write_text('item { name: "cat" label: 8 }')
    out, links = tmp_path / "new" / "folder" / "db", tmp_path / "links"
    flags = ["--anno-type=detection", f"--label-map-file={lists}/map.prototxt", "--encoded"]
    argv = [*flags, str(devkit), str(lists / "trainval.txt"), str(out), str(links)]
    assert create_annoset.main(argv) == 0
    assert (links / "db").resolve() == out
    assert len(LmdbSource(links / "db")) == 2
    assert create_annoset.main(argv) == 1
    assert "already exists" in capsys.readouterr().err
    assert create_annoset.main(["--redo", *argv]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: "nowhere"}, "root folder nowhere/ does not exist"),
        ({1: "none.txt"}, "none.txt"),
        ({1: "bad.txt"}, "the annotation .*none.xml does not exist"),
    ],
)
def test_create_annoset_checks_first(devkit, tmp_path, capsys, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.txt").write_text("a.jpg none.xml\n")
    (tmp_path / "map.prototxt").write_text('item { name: "cat" label: 8 }')
    words = [str(devkit), "bad.txt", "db", "links"]
    for position, word in change.items():
        words[position] = word
    flags = ["--anno-type=detection", "--label-map-file=map.prototxt"]
    assert create_annoset.main([*flags, *words]) == 1
    error = capsys.readouterr().err
    assert any(part in error for part in message.split(".*"))
    assert not (tmp_path / "db").exists()
