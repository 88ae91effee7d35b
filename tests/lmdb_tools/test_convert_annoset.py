"""convert_annoset against databases made by the reference, and what it does on bad input."""

from __future__ import annotations

import json
import re
import shlex
import zlib

import cv2
import lmdb
import numpy as np
import pytest

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.errors import FileError
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from lmdb_tools.annoset import shuffled
from lmdb_tools.convert_annoset import main
from lmdb_tools.database import new_database
from tests.support.blank import drawn_shapes
from tests.support.golden import GOLDEN, SHARED, SHARED_GOLDEN, shared_cases

DATABASES = json.loads((GOLDEN / "data" / "db_facts.json").read_text())

LABEL_MAP = 'item { name: "cat" label: 3 display_name: "cat" }'
XML = """<annotation><size><width>30</width><height>20</height></size><object><name>cat</name>
<bndbox><xmin>3</xmin><ymin>2</ymin><xmax>15</xmax><ymax>20</ymax></bndbox></object></annotation>"""


def records(path):
    source = LmdbSource(path)
    return list(zip(source.keys(), (source[i] for i in range(len(source))), strict=True))


@pytest.fixture
def small(tmp_path):
    """A folder with three images (the second is damaged), annotations, lists, a label map."""
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    for name in ("a.jpg", "c.png"):
        cv2.imwrite(str(tmp_path / name), image)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    for stem in "abc":
        (tmp_path / f"{stem}.xml").write_text(XML)
    (tmp_path / "list.txt").write_text("a.jpg a.xml\nb.jpg b.xml\nc.png c.xml\n")
    (tmp_path / "classes.txt").write_text("a.jpg 5\nc.png 12\n")
    (tmp_path / "map.prototxt").write_text(LABEL_MAP)
    return tmp_path


def convert(folder, *flags, list_file="list.txt", database="db"):
    detection = ["--anno_type=detection", f"--label_map_file={folder}/map.prototxt"]
    words = [*flags, f"{folder}/", str(folder / list_file), str(folder / database)]
    return main(words if "--anno_type=classification" in flags else [*detection, *words])


@pytest.mark.parametrize("name", shared_cases(DATABASES), ids=str)
def test_reference_databases_are_reproduced(name, tmp_path, capsys):
    facts = DATABASES[name]
    words = [re.sub("shared/", f"{SHARED}/", word) for word in shlex.split(facts["command"])[1:]]
    assert main([*words[:-1], str(tmp_path / name)]) == 0
    made = records(tmp_path / name)
    assert made == records(SHARED_GOLDEN / "data" / name)
    assert [zlib.crc32(value) for _, value in made] == [r["value_crc32"] for r in facts["records"]]
    log = capsys.readouterr().err.splitlines()
    assert log[-1].endswith("] " + facts["log"])
    warned = [
        re.sub(r".*\] .*/golden/(.*boundary).*", r"\1.", line) for line in log if "bound" in line
    ]
    assert warned[:20] == facts["warnings"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_drawn_shapes_are_reproduced(split, tmp_path):
    folder = drawn_shapes(tmp_path / "shapes")
    flags = ["--anno_type=detection", f"--label_map_file={folder}/labelmap.prototxt"]
    reference = records(folder / f"{split}_lmdb")
    encoded = AnnotatedDatum.FromString(reference[0][1]).datum.encoded
    flags += ["--encode_type=jpg", "--encoded"] if encoded else []
    assert main([*flags, f"{folder}/", f"{folder}/{split}.txt", str(tmp_path / "db")]) == 0
    assert records(tmp_path / "db") == reference


def test_unreadable_image_is_skipped_and_leaves_a_gap(small, capsys):
    assert convert(small, "--encode_type=jpg") == 0
    made = records(small / "db")
    assert [key for key, _ in made] == [b"00000000_a.jpg", b"00000002_c.png"]
    assert "Could not open or find file" in capsys.readouterr().err


def test_fields_of_a_detection_record(small):
    convert(small, "--encode_type=jpg")
    record = AnnotatedDatum.FromString(records(small / "db")[0][1])
    assert record.datum.data == (small / "a.jpg").read_bytes()
    assert (record.datum.label, record.datum.encoded, record.HasField("type")) == (-1, True, True)
    (group,) = record.annotation_group
    (annotation,) = group.annotation
    assert (group.group_label, annotation.HasField("instance_id")) == (3, True)
    box = annotation.bbox
    assert (box.HasField("difficult"), box.HasField("label"), box.HasField("size")) == (
        True,
        False,
        False,
    )
    assert box.ymax == 1


def test_encoded_alone_keeps_files_untouched(small):
    """The reference guesses '.jpg' with the dot and so encodes every image anew."""
    convert(small, "--encoded")
    data = [AnnotatedDatum.FromString(value).datum.data for _, value in records(small / "db")]
    assert data == [(small / "a.jpg").read_bytes(), (small / "c.png").read_bytes()]


def test_one_size_without_the_other_encodes_anew_but_does_not_resize(small):
    convert(small, "--encode_type=png", "--resize_height=10")
    datum = AnnotatedDatum.FromString(records(small / "db")[1][1]).datum
    assert (datum.height, datum.width) == (20, 30)


def test_classification(small):
    flags = ("--anno_type=classification", "-gray")
    assert convert(small, *flags, list_file="classes.txt") == 0
    found = [AnnotatedDatum.FromString(value) for _, value in records(small / "db")]
    assert [record.datum.label for record in found] == [5, 12]
    assert not found[0].HasField("type")
    assert len(found[0].datum.data) == 20 * 30


def test_a_malformed_line_of_the_list(small, capsys):
    (small / "bad.txt").write_text("a.jpg 5\n\nc.png cat\na.jpg 6\n")
    fault = "bad.txt:3: expected an image and a number, got 'c.png cat'"
    assert convert(small, "--anno_type=classification", list_file="bad.txt") == 1
    assert fault in capsys.readouterr().err
    assert not (small / "db").exists()
    assert convert(small, "--anno_type=classification", "--lenient", list_file="bad.txt") == 0
    assert len(records(small / "db")) == 1
    assert fault in capsys.readouterr().err


def test_shuffle_with_a_seed_repeats(small):
    for name in ("one", "two"):
        convert(small, "--shuffle", "--shuffle_seed=4", database=name)
    assert records(small / "one") == records(small / "two")
    lines = [(str(i), "") for i in range(50)]
    assert shuffled(lines, 1) != lines
    assert sorted(shuffled(lines, None)) == sorted(lines)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backend=leveldb"], "leveldb', which is not supported; use lmdb"),
        (["--backend=hdf5"], "-backend is 'hdf5'; allowed: lmdb"),
        (["--label_map_file="], "needs -label_map_file"),
        (["--encode_type=tiffany"], "'tiffany', which OpenCV cannot write"),
        (["--label_type=csv"], "-label_type: invalid choice: 'csv'"),
        (["--anno_tpe=x"], "did you mean -anno_type"),
        (["extra"], "unrecognized arguments: "),
    ],
)
def test_usage_errors(small, capsys, flags, message):
    assert convert(small, *flags) == 2
    assert message in capsys.readouterr().err
    assert not (small / "db").exists()


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("file", "text", "flags", "message"),
    [
        ("c.xml", XML.replace("cat", "catt"), (), "c.xml: class 'catt' is not in the label map"),
        ("c.xml", "<annotation>", (), "c.xml: not a readable XML file"),
        ("map.prototxt", LABEL_MAP * 2, ("--check_label",), "'cat' stands more than once"),
        ("list.txt", "", (), "list.txt names no image"),
        ("c.xml", XML.replace("15", "wide"), (), "c.xml: <xmax> of a box is 'wide', not a number"),
        ("list.txt", "a.jpg a.xml\nc.png d.xml", (), r"annotation file .*/d\.xml is missing"),
        ("list.txt", "a.jpg a.xml\nc.png", (), r"list.txt:2: expected an image and an annotation"),
        ("map.prototxt", LABEL_MAP.replace("3", "0"), (), "class 'cat' has label 0"),
        (
            "list.txt",
            "".join(f"a.jpg {i}.xml\n" for i in range(13)),
            (),
            r"/9\.xml is missing\n  \.\.\. and 3 more faults\n.*\n  nothing was written; -lenient",
        ),
        ("list.txt", "x.jpg a.xml\n", (), r"not one of 1 images could be read.*end in a slash"),
        ("list.txt", "a.jpg a.xml\n" + "c.png c.xml", ("--check_size", "--encoded"), "a.jpg: "),
    ],
)
def test_failures_leave_nothing_behind(small, capsys, file, text, flags, message):
    (small / file).write_text(text)
    assert convert(small, *flags) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (small / "db").exists()
    assert leftovers(small) == []


def test_no_box_at_all(small, capsys):
    for stem in "ac":
        (small / f"{stem}.xml").write_text("<annotation/>")
    assert convert(small) == 1
    assert "not one of 2 images has a box" in capsys.readouterr().err
    assert not (small / "db").exists()
    assert convert(small, "--lenient") == 0
    assert "not one of 2 images has a box" in capsys.readouterr().err
    assert len(records(small / "db")) == 2


def test_missing_annotations_that_are_meant(small, capsys):
    (small / "list.txt").write_text("a.jpg a.xml\nc.png none.xml\n")
    assert convert(small, "--lenient") == 0
    assert re.search(r"\nW.*none\.xml is missing", capsys.readouterr().err)
    groups = [
        AnnotatedDatum.FromString(value).annotation_group for _, value in records(small / "db")
    ]
    assert [len(group) for group in groups] == [1, 0]


def test_summary(small, capsys):
    (small / "map.prototxt").write_text(
        LABEL_MAP + LABEL_MAP.replace("cat", "dog").replace("3", "5")
    )
    boxless = XML.replace("<object>", "<object><name>cat</name></object><object>")
    (small / "c.xml").write_text(boxless.replace("<xmax>15", "<difficult>1</difficult><xmax>15.5"))
    assert convert(small) == 0
    lines = [re.sub(r"^(\w)\d{4} .*?\] ", r"\1 ", x) for x in capsys.readouterr().err.splitlines()]
    assert lines[-5:] == [
        "I Summary: 2 images, 1 skipped; 2 boxes, 0 of them difficult; 0 images without a box.",
        "I   class 3 (cat): 2 boxes",
        "W   classes without a box: dog",
        "W   1 objects without a box, left out",
        "I Processed 2 files.",
    ]


def test_missing_list_and_label_map(small, capsys):
    assert convert(small, list_file="none.txt") == 1
    assert "none.txt" in capsys.readouterr().err
    assert convert(small, "--label_map_file=nowhere.prototxt") == 1
    assert "nowhere.prototxt" in capsys.readouterr().err


def test_existing_database_is_refused_and_kept(small, capsys):
    convert(small)
    before = records(small / "db")
    assert convert(small) == 1
    assert "already exists" in capsys.readouterr().err
    assert records(small / "db") == before


def test_help(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "convert_annoset [flags] ROOTFOLDER/ LISTFILE DB_NAME" in out
    assert "\n  -repair_xml " in out


def test_log_lines_look_like_the_references(small, capsys):
    convert(small)
    first = capsys.readouterr().err.splitlines()[0]
    pattern = r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ convert_annoset\.py:\d+\] A total of 3 images\."
    assert re.fullmatch(pattern, first)


def test_more_records_than_one_transaction_and_than_the_first_map(tmp_path):
    with new_database(tmp_path / "db") as writer:
        for i in range(2500):
            writer.put(f"{i:08d}", i.to_bytes(2, "big") * 1000)
    made = records(tmp_path / "db")
    assert len(made) == 2500
    assert made[2499] == (b"00002499", (2499).to_bytes(2, "big") * 1000)


def test_interrupted_database_never_appears(tmp_path):
    def write_and_fail():
        with new_database(tmp_path / "db") as writer:
            writer.put("key", b"value")
            assert not (tmp_path / "db").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_old_one_until_the_end(tmp_path):
    for value in (b"old", b"new"):
        with new_database(tmp_path / "db", replace=True) as writer:
            writer.put("key", value)
            if value == b"new":
                with lmdb.open(str(tmp_path / "db"), readonly=True, lock=False) as old:
                    assert old.begin().get(b"key") == b"old"
    assert records(tmp_path / "db") == [(b"key", b"new")]
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_only_databases_are_replaced(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("")
    with (
        pytest.raises(FileError, match="is no LMDB"),
        new_database(tmp_path / "precious", replace=True),
    ):
        pass
    assert (tmp_path / "precious" / "thesis.tex").exists()


def test_missing_parent_folder(tmp_path):
    with (
        pytest.raises(FileError, match="where the database should go, does not exist"),
        new_database(tmp_path / "no" / "db"),
    ):
        pass
