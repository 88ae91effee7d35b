"""Result files of every format, and archives of them for the evaluation servers."""

from __future__ import annotations

import json
import tarfile
import zipfile

import pytest

from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.evaluate.result_reader import read_results
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.evaluate.submission import pack
from caffe_ssd.evaluate.test_set import make_test_set
from caffe_ssd.proto.label_map import LabelMap

IMAGES = [ImageSize(name="12", height=30, width=40), ImageSize(name="5", height=35, width=45)]
TEST_SET = make_test_set(IMAGES, {"cat": "cat", "wildcat": "wild cat"}, [])
LABELS = LabelMap(
    name_to_label={"cat": 1, "wildcat": 2},
    label_to_name={1: "cat", 2: "wildcat"},
    label_to_display_name={1: "cat", 2: "wild cat"},
)


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "comp3_det_test_cat.txt").write_text("12 0.5 1 2 3 5\n5 0.25 0 0 9 8\n")
    (results / "comp3_det_test_wildcat.txt").write_text("5 0.75 4 5 6 8\n")
    return results


def columns(found):
    return list(
        zip(
            found.image.tolist(),
            found.category.tolist(),
            found.scores.tolist(),
            found.boxes_px.tolist(),
            strict=True,
        )
    )


WANT = [(0, 0, 0.5, [1, 2, 2, 3]), (1, 0, 0.25, [0, 0, 9, 8]), (1, 1, 0.75, [4, 5, 2, 3])]


def test_a_folder(folder):
    assert columns(read_results(folder, TEST_SET)) == WANT
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.replace("comp3_det_test_", "mine-"))
    assert columns(read_results(folder, TEST_SET, prefix="mine-")) == WANT
    with pytest.raises(FileError, match=r"no result file.*comp4_det_test_ or comp3_det_test_cat.t"):
        read_results(folder, TEST_SET)


def test_a_class_without_a_file(folder, caplog):
    (folder / "comp3_det_test_wildcat.txt").unlink()
    assert columns(read_results(folder, TEST_SET)) == WANT[:2]
    assert "has no result file of class wildcat" in caplog.text


def test_single_files(tmp_path):
    coco = tmp_path / "r.json"
    items = [
        {"image_id": 12, "category_id": "cat", "bbox": [1, 2, 2, 3], "score": 0.5},
        {"image_id": 5, "category_id": "cat", "bbox": [0, 0, 9, 8], "score": 0.25},
        {"image_id": 5, "category_id": "wildcat", "bbox": [4, 5, 2, 3], "score": 0.75},
    ]
    coco.write_text(json.dumps(items))
    assert columns(read_results(coco, TEST_SET)) == WANT
    ilsvrc = tmp_path / "r.txt"
    ilsvrc.write_text("12 1 0.5 1 2 3 5\n5 1 0.25 0 0 9 8\n5 2 0.75 4 5 6 8\n")
    assert columns(read_results(ilsvrc, TEST_SET, label_map=LABELS)) == WANT
    with pytest.raises(UsageError, match="whose labels need a label map; for VOC files give their"):
        read_results(ilsvrc, TEST_SET)
    ilsvrc.write_text("12 3 0.5 1 2 3 5\n")
    with pytest.raises(DataError, match="label 3 is not in the label map"):
        read_results(ilsvrc, TEST_SET, label_map=LABELS)


def test_no_such_results(tmp_path):
    with pytest.raises(FileError, match="no such file or folder"):
        read_results(tmp_path / "nothing", TEST_SET)
    (tmp_path / "r.csv").touch()
    with pytest.raises(UsageError, match=r"folder of VOC files, a .json file \(COCO\) or a .txt"):
        read_results(tmp_path / "r.csv", TEST_SET)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_an_archive_for_the_voc_server(folder, tmp_path, ending):
    target = tmp_path / f"out{ending}"
    names = pack(folder, target, categories=["cat", "wildcat"])
    assert names == [f"results/VOC2012/Main/comp3_det_test_{x}.txt" for x in ("cat", "wildcat")]
    with tarfile.open(target) as archive:
        assert archive.getnames() == names
        member = archive.extractfile(names[1])
        assert member is not None
        assert member.read() == b"5 0.75 4 5 6 8\n"
    with pytest.raises(DataError, match="lacks files of cow; the server wants them all"):
        pack(folder, target, categories=["cat", "cow"])
    with pytest.raises(UsageError, match=r"takes a .tar, .tar.gz or .tgz file"):
        pack(folder, tmp_path / "out.zip", categories=["cat"])
    with pytest.raises(UsageError, match="needs a label map"):
        pack(folder, target, categories=[])


def test_an_archive_for_the_coco_server(tmp_path):
    results = tmp_path / "detections_test-dev2017_mine_results.json"
    results.write_text("[]\n")
    assert pack(results, tmp_path / "out.zip", categories=[]) == [results.name]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read(results.name) == b"[]\n"
    with pytest.raises(UsageError, match=r"takes a .zip file"):
        pack(results, tmp_path / "out.tar", categories=[])
    other = results.rename(tmp_path / "mine.json")
    with pytest.raises(DataError, match=r"mine.json must be called detections_SET_NAME_results"):
        pack(other, tmp_path / "out.zip", categories=[])
    with pytest.raises(UsageError, match="can be packed"):
        pack(tmp_path / "mine.txt", tmp_path / "out.zip", categories=[])
