"""`caffe fit`: one command from a folder to weights and a report, and back into it after a stop."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from caffe_ssd.cli import fit
from caffe_ssd.cli.main import main
from caffe_ssd.datasets import write_folder
from caffe_ssd.errors import UsageError
from caffe_ssd.fitting import finish
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.report.report import write_report
from tests.support.annotated import CLASSES, drawn_dataset

SHORT = ("-size", "128", "-batch", "4", "-iterations", "2", "-workers", "0")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 8 pictures to train on and 4 to score on; little is done twice."""
    monkeypatch.setattr(finish, "PASSES", 2)
    monkeypatch.setattr(fit, "write_report", partial(write_report, has_speed=False))
    write_folder(drawn_dataset(tmp_path / "drawn", 12, 4), tmp_path / "pictures", "voc")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pictures"


def test_a_folder_becomes_a_detector(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "pictures", *SHORT]) == 0
    run = Path("pictures_fit")
    said = capfd.readouterr().out
    for title in ("classes", "net", "priors", "length", "mAP"):
        assert title in said
    assert (run / "detector.caffemodel").exists()
    assert list(read_label_map(run / "data/labelmap.prototxt").name_to_label)[1:] == CLASSES
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "blåbær" in page
    notes = json.loads((run / "fit.json").read_text(encoding="utf-8"))
    assert notes["plan"]["iterations"] == 2
    assert (run / "train.log").stat().st_size > 10_000

    # The command that it ends with works, and so does its own -resume: nothing is trained twice.
    command = said.split("use it: caffe ")[1].split("\n")[0]
    picture = next((run / "data/JPEGImages").iterdir())
    assert main([*command.replace("PICTURE", str(picture)).split(), "-output", "found"]) == 0
    before = (run / "detector.caffemodel").read_bytes()
    assert main(["fit", "pictures", "-resume", "-workers", "0"]) == 0
    assert (run / "detector.caffemodel").read_bytes() == before


def test_a_plan_can_be_looked_at_before_it_is_followed(
    pictures: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "pictures", *SHORT, "-plan_only"]) == 0
    assert not list(Path("pictures_fit/snapshots").iterdir())
    assert "-resume" in capfd.readouterr().out
    assert main(["fit", "pictures", *SHORT]) == 2
    assert "holds a run already" in capfd.readouterr().err


def test_errors_in_the_data_stop_it(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = next((pictures / "JPEGImages").glob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:200])
    assert main(["fit", "pictures", *SHORT]) == 1
    told = capfd.readouterr()
    assert damaged.name in told.out
    assert "-anyway" in told.err


def test_classes_can_be_chosen(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "pictures", *SHORT, "-plan_only", "-classes", "ring"]) == 0
    names = read_label_map("pictures_fit/data/labelmap.prototxt").name_to_label
    assert list(names)[1:] == ["ring"]
    assert main(["fit", "pictures", *SHORT, "-output", "b", "-classes", "wring"]) == 2
    assert "no class 'wring'" in capfd.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h30m", 5400), ("90s", 90)])
def test_times(text: str, seconds: float) -> None:
    assert fit._seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "half an hour", "0m", "5x"])
def test_times_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="like 30m"):
        fit._seconds(text)


def test_a_stopped_preparation_is_done_again(
    pictures: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fit, "make_plan", stopped)
        assert main(["fit", "pictures", *SHORT]) == 130
    assert Path("pictures_fit/data/test_lmdb").is_dir()
    # An error after the data was stored is no reason to choose another folder, either.
    assert main(["fit", "pictures", "-size", "128", "-batch", "4", "-time", "1s"]) == 2
    assert "too short" in capfd.readouterr().err
    assert main(["fit", "pictures", *SHORT, "-plan_only", "-resume"]) == 0
    Path("other").mkdir()
    Path("other/mine.txt").touch()
    assert main(["fit", "pictures", *SHORT, "-output", "other", "-resume"]) == 2
    assert "not empty" in capfd.readouterr().err


def test_a_run_goes_on_as_it_was_begun(
    pictures: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["-output", "my run"]
    assert main(["fit", "pictures", *SHORT, *run, "-plan_only"]) == 0
    assert "caffe fit pictures -output 'my run' -resume" in capfd.readouterr().out
    again = ["fit", "pictures", *run, "-plan_only", "-resume"]
    assert main(again) == 0
    assert main([*again, "-iterations", "2"]) == 0
    for flags, told in (
        (["-iterations", "3"], "-iterations cannot change"),
        (["-classes", "ring"], "begun without -classes"),
        (["-seed", "2"], "-seed cannot change"),
    ):
        assert main([*again, *flags]) == 2
        assert told in capfd.readouterr().err
    assert main(["fit", "drawn", *run, "-plan_only", "-resume"]) == 2
    assert "was begun with the pictures in pictures" in capfd.readouterr().err
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main(["fit", "../pictures", "-output", "../my run", "-resume"]) == 2
    assert "was begun as my run" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value"), [("-seed", "-1"), ("-rate", "0"), ("-rate", "nan"), ("-rate", "-0.1")]
)
def test_numbers_that_make_no_sense(flag: str, value: str) -> None:
    with pytest.raises(UsageError, match=flag):
        fit._parse(["pictures", flag, value])


def test_a_class_that_is_named_twice_is_one() -> None:
    assert fit._parse(["pictures", "-classes", "ring, disc,ring"]).classes == ["ring", "disc"]
