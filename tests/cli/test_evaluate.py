"""`caffe evaluate` and `caffe test -protocol`: the same numbers from files and from the net."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf.text_format import Parse

from caffe_ssd.cli.main import main
from caffe_ssd.errors import UsageError
from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.scoring.official import OfficialScores
from tests.support.blank import blank_bccd, converted
from tests.support.golden import GOLDEN, SHARED_GOLDEN, needs_shared

EVAL = GOLDEN / "eval"
RESULTS = str(EVAL / "results")
LABELS = ["-label_map", str(EVAL / "labelmap_bccd.prototxt")]
SIZES = ["-name_size_file", str(EVAL / "test_name_size.txt")]
DATA_SET = GOLDEN / "bccd"
XML = ["-annotations", str(DATA_SET / "Annotations"), "-image_list", str(DATA_SET / "test.txt")]


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recorded detector, in which the test runs."""
    for path in (SHARED_GOLDEN / "eval").iterdir():
        if path.suffix in (".prototxt", ".caffemodel", ".txt"):
            shutil.copyfile(path, tmp_path / path.name)
    database = tmp_path / "bccd_test_lmdb"
    database.mkdir()
    for path in (SHARED_GOLDEN / "eval" / "bccd_test_lmdb").iterdir():
        shutil.copyfile(path, database / path.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbers(path: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(path.read_text())["numbers"]
    return found


def test_reference_numbers_of_recorded_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files and database agree; the files' whole pixels move RBC by 5e-4 at most."""
    stored = converted(blank_bccd(tmp_path / "bccd"), "test", tmp_path / "lmdb")
    database = ["-lmdb", stored, *LABELS, *SIZES, "-protocol", "reference,voc2007,VOC2012"]
    for index, truth in enumerate((XML, database)):
        assert main(["evaluate", RESULTS, *truth, "-json", str(tmp_path / f"{index}.json")]) == 0
    first, second = (numbers(tmp_path / f"{index}.json") for index in range(2))
    assert first == pytest.approx(second, rel=1e-12)
    recorded = json.loads((EVAL / "eval.json").read_text())["results"]
    for version in ("11point", "MaxIntegral", "Integral"):
        want = recorded[f"name_size_file/{version}"]["mAP"]
        assert first[f"reference mAP ({version})"] == pytest.approx(want, abs=2e-4)
    # On the same files the two ways of counting agree but for float32.
    assert first["VOC2007 protocol mAP"] == pytest.approx(
        first["reference mAP (11point)"], abs=1e-6
    )
    assert first["VOC2012 protocol mAP"] == pytest.approx(
        first["reference mAP (MaxIntegral)"], abs=1e-6
    )
    out = capsys.readouterr().out
    assert "14400 detections on 72 images" in out
    assert out.count("VOC2007 protocol mAP         0.863359") == 2
    table = out.splitlines()
    assert table[2].split() == ["reference", "VOC2007", "VOC2012"]
    assert (
        table[3].split() == ["class", "objects", "11point", "MaxIntegral", "Integral"] + ["AP"] * 2
    )
    assert table[5].split() == ["RBC", "805", "0.8068", "0.8532", "0.8516", "0.8068", "0.8532"]


@needs_shared
def test_official_numbers_of_a_pass(detector: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A test pass gives what `caffe evaluate` gives for the files saved in it."""
    pytest.importorskip("pycocotools")
    model = Path("test_save.prototxt")
    net = ["-weights", "bccd_dense_iter_3200.caffemodel", "-workers", "0"]
    flags = ["-protocol", "voc2007,voc2012", "-protocol", "coco", "-json", "pass.json"]
    assert main(["test", "-model", str(model), *net, *flags]) == 0
    of_pass = numbers(Path("pass.json"))
    database = ["-lmdb", "bccd_test_lmdb", *LABELS, *SIZES]
    assert of_pass["reference mAP (11point)"] == pytest.approx(0.863322, abs=1e-6)
    assert "Platelets       69 " in capsys.readouterr().out

    assert main(["evaluate", "results", *database, "-json", "files.json"]) == 0
    of_files = numbers(Path("files.json"))
    for year in ("2007", "2012"):
        name = f"VOC{year} protocol mAP"
        assert of_pass[name] == pytest.approx(of_files[name], abs=1e-12)

    model.write_text(
        model.read_text().replace('"VOC"', '"COCO"').replace("comp4_det_test_", "detections")
    )
    assert main(["test", "-model", str(model), *net]) == 0
    assert main(["evaluate", "results/detections.json", *database, "-json", "coco.json"]) == 0
    coco = numbers(Path("coco.json"))
    assert len(coco) == 12
    assert coco == pytest.approx({k: v for k, v in of_pass.items() if k in coco}, abs=1e-12)

    # These files have the decimals, so that nothing separates them from the reference in pixels.
    flags = ["-protocol", "reference,voc2007,voc2012", "-json", "pixels.json"]
    assert main(["evaluate", "results/detections.json", *database, *flags]) == 0
    have = numbers(Path("pixels.json"))
    recorded = json.loads((EVAL / "eval.json").read_text())["results"]
    want = {v: recorded[f"name_size_file/{v}"]["mAP"] for v in ("11point", "MaxIntegral")}
    for version, year in (("11point", "2007"), ("MaxIntegral", "2012")):
        assert have[f"reference mAP ({version})"] == pytest.approx(want[version], abs=2e-6)
        assert have[f"VOC{year} protocol mAP"] == pytest.approx(want[version], abs=2e-6)


@needs_shared
def test_a_net_without_names_and_an_uneven_batch(
    detector: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes come from the stored pictures; the last batch of 11 has only 6."""
    model = Path("test.prototxt")
    text = model.read_text().replace("batch_size: 8", "batch_size: 11")
    model.write_text(text.replace('label_map_file: "labelmap_bccd.prototxt"', ""))
    net = ["-model", str(model), "-weights", "bccd_dense_iter_3200.caffemodel", "-workers", "0"]
    assert main(["test", *net, "-protocol", "voc2007"]) == 0
    out = capsys.readouterr().out
    assert "reference mAP (11point)      0.863322" in out
    assert "VOC2007 protocol mAP         0.863359" in out
    assert "\n3           69" in out
    assert main(["test", *net, "-protocol", "voc2007", "-iterations", "3"]) == 2
    assert "-protocol scores the whole test set" in capsys.readouterr().err


COCO = {
    "images": [{"id": 1, "height": 30, "width": 40}],
    "categories": [{"id": 3, "name": "car"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 6, 10, 20]}],
}


@pytest.fixture
def coco(tmp_path: Path) -> list[str]:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(COCO))
    found = [{"image_id": 1, "category_id": 3, "bbox": [5, 6, 10, 20], "score": 0.5}]
    results.write_text(json.dumps(found))
    return ["evaluate", str(results), "-annotations", str(truth)]


def test_a_coco_file(coco: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    assert main([*coco, "-json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "COCO AP@[.50:.95]                1.000000" in out
    assert "COCO AP@[.50:.95] large          -\n" in out
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["numbers"]["COCO AP@[.50:.95] large"] is None
    assert content["classes"][0] == {
        "category": "3",
        "class": "car",
        "objects": 1,
        "COCO protocol": pytest.approx({"AP": 1, "AP50": 1, "AP75": 1}),
    }


def test_a_coco_file_by_the_other_protocols(
    coco: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*coco, "-protocol", "voc2012", "-protocol", "reference"]) == 0
    out = capsys.readouterr().out
    assert "VOC2012 protocol mAP         1.000000" in out
    assert "reference mAP (11point)      1.000000" in out


def test_without_pycocotools(
    coco: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    assert main(coco) == 2
    assert "pip install 'ssd-caffe[coco]'" in capsys.readouterr().err


def test_packing_needs_no_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "comp4_det_test_cat.txt").write_text("12 0.5 1 2 3 5\n")
    labels = tmp_path / "map.prototxt"
    labels.write_text("item { name: 'none' label: 0 } item { name: 'cat' label: 1 }")
    target = tmp_path / "out.tgz"
    assert main(["evaluate", str(tmp_path), "-label_map", str(labels), "-pack", str(target)]) == 0
    assert "results/VOC2012/Main/comp4_det_test_cat.txt" in capsys.readouterr().out
    assert target.exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "-annotations or -lmdb is missing"),
        (["-annotations", "a", "-lmdb", "b"], "exclude each other"),
        (["-annotations", "a", "-protocol", "voc2008"], "unknown protocol 'voc2008'; known: ref"),
        (["-annotations", "a"], "needs -image_list or -name_size_file"),
        (["-lmdb", "a"], "-lmdb needs -label_map and -name_size_file"),
    ],
)
def test_wrong_usage(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "results", *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_net_that_finds_nothing() -> None:
    layer = "layer { name: 'a' type: 'Input' top: 'a' input_param { shape { dim: 2 dim: 3 } } }"
    net = build_net(Parse(layer, NetParameter()), NetState(phase=Phase.Value("TEST")))
    with pytest.raises(UsageError, match="one DetectionEvaluate layer; this one has 0"):
        OfficialScores(net)
