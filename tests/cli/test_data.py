"""`caffe data`: check, convert, show."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest

from caffe_ssd.cli.main import main
from caffe_ssd.datasets import read_folder, write_folder, write_voc
from lmdb_tools.convert_annoset import main as convert_annoset
from tests.datasets.test_doctor import good_folder, misspelt, swapped
from tests.datasets.test_net_priors import DATA, HEAD, LOSS
from tests.support.annotated import drawn_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(drawn_dataset(tmp_path / "drawn", count=8, num_test=2), tmp_path / "set", "coco")
    return tmp_path / "set"


@pytest.fixture
def databases(folder: Path, tmp_path: Path) -> list[str]:
    """The LMDBs of that folder for training and testing, beside their label map."""
    voc = tmp_path / "voc"
    write_voc(read_folder(folder), voc)
    paths = []
    for split in ("trainval", "test"):
        paths.append(str(voc / f"{split}_lmdb"))
        flags = ["-anno_type=detection", f"-label_map_file={voc}/labelmap.prototxt"]
        encoding = ["-encode_type=png", f"{voc}/", f"{voc}/{split}.txt", paths[-1]]
        assert convert_annoset([*flags, *encoding]) == 0
    return paths


def test_check_of_a_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tmp_path / "train.prototxt"
    net.write_text(DATA + HEAD + LOSS)
    page = tmp_path / "check.html"
    capsys.readouterr()
    assert main(["data", "check", str(folder), "-model", str(net), "-output", str(page)]) == 0
    text = capsys.readouterr().out
    assert "COCO JSON: annotations/instances_test.json, annotations/instances_train.json" in text
    assert "8 pictures (6 to train, 2 to test)" in text
    assert re.search(r"^ring +\d+ +\d+$", text, re.MULTILINE)
    assert "the net's 384 priors (input 64 x 96) with an overlap of 0.4" in text
    assert text.endswith(f"Wrote {page}\n")
    html = page.read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") >= 8
    for words in ("What the priors reach", "green square", "blåbær", "Examples"):
        assert words in html


def test_errors_are_told_by_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good_folder(tmp_path)
    capsys.readouterr()
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("0 errors, 0 warnings, 0 notes\n")
    misspelt(folder)
    assert main(["data", "check", str(folder)]) == 0
    text = capsys.readouterr().out
    assert (
        "warning: class 'rimg' (1 box) may be class 'ring' (69 boxes), misspelt [misspelt]" in text
    )
    swapped(folder)
    page = str(tmp_path / "page.html")
    assert main(["data", "check", str(folder), "-output", page]) == 1
    text = capsys.readouterr().out
    assert "error:   1 box has swapped corners" in text
    assert "           JPEGImages/picture_004.png\n" in text
    assert "1 error, " in text
    assert Path(page).is_file()


def test_check_of_databases(databases: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["data", "check", *databases]) == 0
    both = capsys.readouterr().out
    assert "8 pictures (6 to train, 2 to test)" in both
    assert "ring" in both  # the label map lies beside
    assert main(["data", "check", databases[1], "-output", f"{databases[1]}.html"]) == 0
    assert "2 pictures, not divided" in capsys.readouterr().out
    html = Path(f"{databases[1]}.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") >= 2


def test_convert(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "yolo"
    assert main(["data", "convert", str(folder), str(out), "-to", "yolo"]) == 0
    boxes = sum(len(picture.boxes) for picture in read_folder(folder).pictures)
    assert f"Wrote {out}: 8 pictures, {boxes} boxes, yolo" in capsys.readouterr().out
    want = {Path(p.name).name: (p.boxes, p.split) for p in read_folder(folder).pictures}
    got = {Path(p.name).name: (p.boxes, p.split) for p in read_folder(out).pictures}
    assert got == want
    assert main(["data", "convert", str(folder), str(out), "-to", "voc"]) == 1
    assert "exists and is not empty" in capsys.readouterr().err


def test_convert_divides(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "drawn", count=10, num_test=0)
    write_folder(dataset, tmp_path / "set", "csv")
    words = ["data", "convert", str(tmp_path / "set"), str(tmp_path / "out"), "-to", "voc"]
    assert main([*words, "-split", "0.3"]) == 0
    got = read_folder(tmp_path / "out")
    assert (len(got.part("train")), len(got.part("test"))) == (7, 3)


def test_show(databases: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "train.prototxt"
    net.write_text((DATA + HEAD + LOSS).replace("SOURCE", databases[0]))
    outputs = [str(tmp_path / f"{name}.png") for name in ("a", "b", "c", "records")]
    capsys.readouterr()
    for output, seed in zip(outputs[:3], ("1", "1", "2"), strict=True):
        words = ["data", "show", str(net), "-n", "5", "-seed", seed, "-output", output]
        assert main(words) == 0
    text = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"5 pictures, \d+ objects, \d+ matched priors; 0 objects without a prior", text[0]
    )
    first, again, other = (Path(output).read_bytes() for output in outputs[:3])
    assert first == again != other
    assert main(["data", "show", databases[0], "-output", outputs[3]]) == 0
    for output in outputs:
        image = cv2.imread(output)
        assert image is not None
        assert image.std() > 10


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        ([], 2, "caffe: the following arguments are required: ACTION"),
        (["chek", "x"], 2, "unknown action 'chek'; did you mean check?"),
        (["check", "nowhere"], 1, "nowhere does not exist"),
        (["check", "a", "b"], 2, "give one folder, one LMDB, or the LMDB of training and"),
        (["check", "a", "-output", "x.pdf"], 2, "the page's name must end in .html"),
        (["convert", "a", "b"], 2, "required: -to"),
        (["convert", "a", "b", "-to", "voc", "-split", "2"], 2, "-split is 2; allowed: above 0"),
        (["show", "a", "-output", "x.pdf"], 2, "allowed: names ending in .png or .jpg"),
        (["show", "a", "-n", "0"], 2, "-n is 0; allowed: 1 or more"),
    ],
)
def test_refused(
    words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *words]) == status
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("action", ["check", "convert", "show"])
def test_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", action, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: caffe data {action} [flags] ")
    assert f"  caffe data {action} " in text.partition("\nexamples:")[2]
