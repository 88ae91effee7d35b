"""`caffe models run` and `caffe models check`: every row, in a folder without data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from caffe.catalogue import CATALOGUE, Published
from caffe.catalogue.needs import needs_of
from caffe.models import plans
from caffe.models.transfer import write_model
from caffe.proto import caffe_pb2

from caffe_ssd.cli import models_run
from caffe_ssd.cli.main import main

Show = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on a machine without GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for module in (plans, models_run):
        monkeypatch.setattr(module, "count_gpus", lambda: 0)
    return tmp_path


@pytest.fixture
def show(folder: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    def start(*words: str, status: int = 0) -> str:
        assert main(["models", *words]) == status
        captured = capsys.readouterr()
        return captured.out + captured.err

    return start


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_every_row_is_shown_and_nothing_written(row: Published, show: Show, folder: Path) -> None:
    text = show("run", row.name, "-print")
    assert text.startswith(f"{row.name}: ")
    assert f"  {row.places.model_dir}/test.prototxt" in text
    assert ("  caffe test \\" in text) == row.at_scales
    assert ("  caffe train \\" in text) == (not row.at_scales)
    assert list(folder.iterdir()) == []
    if not row.at_scales:
        schedule = row.recipe.schedule
        images = schedule.images_per_iteration(schedule.num_devices)
        assert f"An iteration on the CPU: {images} images, " in text
        assert f"  max_iter: {schedule.max_iter}\n" in text


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_every_row_says_what_it_lacks_and_would_take(row: Published, show: Show) -> None:
    text = show("check", row.name, "-no_time", status=1)
    needs = needs_of(row)
    lacking, sources = text.partition("\nNeeds\n")[2].split("\nWhat is missing comes from\n")
    assert lacking.count("  missing  ") == len(needs)
    for need in needs:
        assert f"  missing  {need.path}  ({need.what})\n" in lacking
        assert f"  {need.source}\n" in sources
    for word in ("memory", "disk"):
        assert re.search(rf"(?m)^  {word} +(?!0\.0)\d+\.\d GB", sources)


def test_every_row_is_checked(show: Show, folder: Path) -> None:
    lines = show("check", "-no_time", status=1).splitlines()
    assert [line.split()[0] for line in lines] == [row.name for row in CATALOGUE]
    assert all(" missing " in line for line in lines)
    assert list(folder.iterdir()) == []


def test_one_row_is_checked_and_measured(show: Show) -> None:
    text = show("check", "ablation1", "-seconds", "0", status=1)
    assert "  missing  data/VOC0712/labelmap_voc.prototxt  (label map)" in text
    assert "  caffe examples .\n" in text
    assert "  python -m lmdb_tools.make_lmdb --layout voc0712 ~/data/VOCdevkit\n" in text
    assert " days on one such device: 100,000 iterations of 128 images (" in text
    assert " s for a pass of 1 on cpu" in text
    assert "0.6 GB for a pass of 4 (blobs and weights)" in text
    assert "1.6 GB of 50 snapshots" in text
    assert "6 things missing." in text


def test_weights_are_missed_with_the_row_that_makes_them(show: Show) -> None:
    text = show("check", "DSOD300-07+12+COCO", "-no_time", status=1)
    assert "(the model for COCO to start from)" in text
    assert "  caffe models run DSOD300-COCO\n" in text
    text = show("check", "res34-07+12-multi", "-no_time", status=1)
    assert "  caffe models run res34-07+12\n" in text
    text = show("check", "SSD300-07+12", "-no_time", status=1)
    assert "models/VGGNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel  (weights to start" in text


def test_a_complete_row(show: Show) -> None:
    (row,) = (row for row in CATALOGUE if row.name == "smallest-07+12")
    for need in needs_of(row)[-4:]:
        Path(need.path).parent.mkdir(parents=True, exist_ok=True)
        Path(need.path).touch()
    text = show("check", row.name, "-no_time")
    assert text.endswith("\nNothing is missing.\n")
    assert "VOCdevkit" not in text  # the databases hold the pictures


def test_data_on_the_way(show: Show, folder: Path) -> None:
    text = show("run", "smallest", status=1)
    assert "missing: data/VOC0712/labelmap_voc.prototxt (label map)" in text
    assert "`caffe models check smallest-07+12` lists all it needs" in text
    assert list(folder.iterdir()) == []


def test_names(show: Show) -> None:
    assert "DSOD300 has 7 rows; which one? DSOD300-07+12, " in show("run", "DSOD300", status=2)
    assert "did you mean res34-07+12-multi?" in show("check", "res34-07+12-mult", status=2)
    assert "-gpu 7: there is no GPU 7" in show("run", "smallest", "-gpu", "7", status=2)


def test_devices_of_another_machine_can_be_looked_at(show: Show) -> None:
    text = show("run", "res34-07+12", "-print", "-gpu", "0,1,2,3,4,5,6,7")
    assert "An iteration on 8 GPUs: 128 images, passes 1 x 16 on each device." in text
    assert "16 images per device and pass, not 32: 8 devices share 128" in text
    assert "_batch16/solver.prototxt" in text


def test_a_row_runs_its_job(show: Show, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[str] = []

    def run_job(path: str) -> int:
        jobs.append(path)
        return 7

    monkeypatch.setattr(plans, "run_job", run_job)
    (row,) = (row for row in CATALOGUE if row.name == "smallest-07+12")
    for need in needs_of(row):
        if need.path.startswith(("data/", "examples/")):
            Path(need.path).parent.mkdir(parents=True, exist_ok=True)
            Path(need.path).touch()
    show("run", row.name, "-workers", "1", status=7)
    assert jobs == [f"{row.places.job_dir}/{row.recipe.model_name}.sh"]
    assert "--workers=1" in Path(jobs[0]).read_text()
    assert Path(row.places.model_dir, "solver.prototxt").is_file()
    assert not Path(row.places.job_dir, "DSOD300_pascal.py").exists()  # there is no script here


def test_the_head_of_a_model_is_that_of_its_weights(show: Show, folder: Path) -> None:
    """What began with COCO has batch norm in ScratchDet's head; what did not has none."""
    rows = {row.name: row for row in CATALOGUE}
    text = show("run", "res34-07+12+COCO", "-print")
    plain = show("run", "res34-07+12", "-print")
    sizes = [int(x.split("train.prototxt  (")[1].split(" ")[0]) for x in (text, plain)]
    assert sizes[0] == sizes[1] + 2 * 2 * 6  # BatchNorm and Scale behind two heads on six maps
    row = rows["res34-07+12+COCO-multi"]
    model = caffe_pb2.NetParameter()
    for name in ("a_mbox_conf", "a_mbox_conf_bn"):
        model.layer.add(name=name)
    Path(row.weights).parent.mkdir(parents=True)
    write_model(row.weights, model)
    found = show("run", row.name, "-print")
    assert f"train.prototxt  ({sizes[0]} layers)" in found
