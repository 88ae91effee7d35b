"""The DSOD scripts: what they write, resume from, refuse and run."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from caffe.models import datasets, devices
from caffe.proto import caffe_pb2
from google.protobuf import text_format
from google.protobuf.json_format import ParseDict

from lmdb_tools.layouts import LAYOUTS
from tests.examples.conftest import Run
from tests.support.golden import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "examples" / "dsod"
VOC = "DSOD300/VOC0712/DSOD300_300x300"
VOC_MODEL = "DSOD300_VOC0712_DSOD300_300x300"


def parsed(path: str, message: Any) -> Any:
    return text_format.Parse(Path(path).read_text(), message)


def solver_of(folder: str = f"models/{VOC}") -> Any:
    return parsed(f"{folder}/solver.prototxt", caffe_pb2.SolverParameter())


def net_of(kind: str, folder: str = f"models/{VOC}") -> Any:
    return parsed(f"{folder}/{kind}.prototxt", caffe_pb2.NetParameter())


def make_voc_data() -> None:
    for name in ("trainval", "test"):
        Path(f"examples/VOC0712/VOC0712_{name}_lmdb").mkdir(parents=True)
    data = Path("data/VOC0712")
    data.mkdir(parents=True)
    (data / "labelmap_voc.prototxt").write_text("item { name: 'none' label: 0 }")
    (data / "test_name_size.txt").write_text("000001 375 500\n")


def fake_caffe(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> None:
    """Put a `caffe` on the path that prints its arguments."""
    folder.mkdir()
    program = folder / "caffe"
    program.write_text(f"#!/bin/sh\necho args: $@\nexit {status}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("name", "folder", "dataset"),
    [
        ("DSOD300_pascal.py", "DSOD300_pascal", "VOC0712"),
        ("DSOD300_pascal++.py", "DSOD300_pascal++", "VOC0712Plus"),
        ("DSOD300_coco.py", "DSOD300_coco", "coco"),
    ],
)
def test_files_without_flags_are_the_published_ones(
    run: Run, tmp_path: Path, name: str, folder: str, dataset: str
) -> None:
    Path("build/tools").mkdir(parents=True)
    Path("build/tools/caffe").touch()
    assert run(f"dsod/{name}", "--no-run") == 0
    model_dir = f"models/DSOD300/{dataset}/DSOD300_300x300"
    job_dir = model_dir.replace("models", "jobs")
    recorded = GOLDEN / "nets" / folder
    for kind in ("train", "test", "deploy", "solver"):
        message: Any = caffe_pb2.SolverParameter() if kind == "solver" else caffe_pb2.NetParameter()
        written = parsed(f"{model_dir}/{kind}.prototxt", message)
        for layer in getattr(written, "layer", []):
            if layer.HasField("data_param"):
                layer.data_param.source = "<train_data>" if kind == "train" else "<test_data>"
            if layer.HasField("detection_output_param"):
                layer.detection_output_param.save_output_param.output_directory = "<output_dir>"
        expected = json.loads((recorded / f"{kind}.json").read_text())
        assert written == ParseDict(expected, type(message)())
        copy = Path(job_dir, f"{kind}.prototxt").read_text()
        assert copy == Path(model_dir, f"{kind}.prototxt").read_text()
    paths = json.loads((recorded / "paths.json").read_text())
    job = Path(job_dir, paths["job_file"])
    lines = [line.replace("<caffe_root>", str(tmp_path)) for line in paths["job_lines"]]
    assert job.read_text().splitlines() == lines
    assert Path(job_dir, name).read_text() == (SCRIPTS / name).read_text()


def test_places_of_data_and_results(run: Run) -> None:
    assert run("dsod/DSOD300_pascal.py", "--no-run") == 0
    train = net_of("train").layer[0]
    assert train.data_param.source == "examples/VOC0712/VOC0712_trainval_lmdb"
    test = net_of("test")
    detection = next(layer for layer in test.layer if layer.type == "DetectionOutput")
    results = detection.detection_output_param.save_output_param.output_directory
    home = os.environ["HOME"]
    assert results == f"{home}/data/VOCdevkit/results/VOC2007/DSOD300_300x300/Main"


@pytest.mark.parametrize(
    ("args", "iter_size", "gpu_flag"),
    [
        ([], 4, "--gpu 0,1,2,3,4,5,6,7 "),
        (["--gpu", "3,1"], 16, "--gpu 3,1 "),
        (["--gpu", "0", "--batch-size", "12"], 16, "--gpu 0 "),  # as 8 devices take 2 x 12 each
        (["--gpu", "none", "--batch-size", "8", "--accum-batch-size", "8"], 1, ""),
    ],
)
def test_passes_per_iteration(run: Run, args: list[str], iter_size: int, gpu_flag: str) -> None:
    assert (
        run("dsod/DSOD300_pascal.py", "--no-run", *args, "--model-dir", "m", "--job-dir", "j") == 0
    )
    solver = solver_of("m")
    assert solver.iter_size == iter_size
    (job,) = Path("j").glob("*.sh")
    shell = job.read_text()
    assert shell.splitlines()[-1].startswith(f"{gpu_flag}--log=")
    gpu = caffe_pb2.SolverParameter.GPU
    assert (solver.solver_mode == gpu) == bool(gpu_flag)
    assert solver.device_id == (3 if gpu_flag == "--gpu 3,1 " else 0)


def test_flags_for_own_data(run: Run) -> None:
    Path("map.prototxt").write_text(
        "item { name: 'cell' label: 1 } item { name: 'nucleus' label: 2 }"
    )
    Path("sizes.txt").write_text("a 48 64\nb 64 48\nc 40 40\n")
    args = [
        "--no-run", "--variant", "tiny", "--dataset-name", "cells", "--train-data", "a_lmdb",
        "--test-data", "b_lmdb", "--label-map", "map.prototxt", "--name-size-file", "sizes.txt",
        "--max-iter", "500", "--base-lr", "0.02", "--test-interval", "50", "--random-seed", "7",
        "--snapshot-interval", "25", "--workers", "3", "--output-dir", "found",
        "--model-dir", "m", "--job-dir", "j", "--gpu", "0",
    ]  # fmt: skip
    assert run("dsod/DSOD300_pascal.py", *args) == 0
    solver = solver_of("m")
    assert (solver.max_iter, list(solver.stepvalue)) == (500, [100, 200, 300, 400, 500])
    assert (solver.test_interval, solver.snapshot, solver.random_seed) == (50, 25, 7)
    assert solver.base_lr == pytest.approx(0.02)
    assert list(solver.test_iter) == [3]  # an odd number of images: one at a time
    name = "DSOD_tiny_cells_DSOD_tiny_128x128_train_a_lmdb_classes3_iterations500_lr0.02_seed7"
    assert solver.snapshot_prefix == f"m/{name}"
    loss = net_of("train", "m").layer[-1].multibox_loss_param
    assert loss.num_classes == 3
    test = net_of("test", "m")
    save = test.layer[-2].detection_output_param.save_output_param
    assert (save.output_directory, save.num_test_image) == ("found", 3)
    assert test.layer[0].data_param.batch_size == 1
    shell = Path(f"j/{name}.sh").read_text()
    assert '--solver="m/solver.prototxt"' in shell
    assert "--workers=3 \\" in shell


def test_flags_of_caffe_train_are_handed_on(run: Run) -> None:
    Path("start.caffemodel").write_bytes(b"")
    own = ["--checkpoint", "--fast-augment", "--weights", "start.caffemodel"]
    args = ["--no-run", "--model-dir", "m", "--job-dir", "j"]
    assert run("dsod/DSOD300_pascal.py", *args, *own) == 0
    (shell,) = Path("j").glob("*.sh")
    for flag in ("--checkpoint", "--skip_jpeg_roundtrip", "--skip_mismatched"):
        assert f"{flag} \\\n" in shell.read_text()


@pytest.mark.parametrize(("variant", "growth"), [("lite", 64), ("smallest", 16)])
def test_variants_have_folders_of_their_own(run: Run, variant: str, growth: int) -> None:
    assert run("dsod/DSOD300_pascal.py", "--no-run", "--variant", variant) == 0
    name = f"DSOD300_{variant}"
    train = net_of("train", f"models/{name}/VOC0712/{name}_300x300")
    assert train.name == f"{name}_VOC0712_{name}_300x300_train"
    conv = next(layer for layer in train.layer if layer.name == "Convolution5")
    assert conv.convolution_param.num_output == growth


def test_resumes_from_the_newest_snapshot(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(f"models/{VOC}_from_base")
    folder.mkdir(parents=True)
    name = f"{VOC_MODEL}_from_base"
    for number in (900, 2000, 10000):
        (folder / f"{name}_iter_{number}.solverstate").touch()
    (folder / f"{name}_iter_99999.solverstate.tmp").touch()
    Path("base.caffemodel").touch()
    assert run("dsod/DSOD300_pascal.py", "--no-run", "--weights", "base.caffemodel") == 0
    job = Path(f"jobs/{VOC}_from_base/{name}.sh")
    shell = job.read_text()
    assert '--snapshot="auto" \\' in shell
    assert f"resuming from {folder}/{name}_iter_10000.solverstate" in caplog.text
    assert "--weights" not in shell
    assert "--weights base.caffemodel not used" in caplog.text

    assert (
        run("dsod/DSOD300_pascal.py", "--no-run", "--no-resume", "--weights", "base.caffemodel")
        == 0
    )
    shell = job.read_text()
    assert '--weights="base.caffemodel" \\' in shell
    assert "--snapshot" not in shell


def test_missing_data(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run("dsod/DSOD300_pascal.py") == 1
    (record,) = caplog.records
    message = record.getMessage()
    for path in (
        "examples/VOC0712/VOC0712_trainval_lmdb",
        "examples/VOC0712/VOC0712_test_lmdb",
        "data/VOC0712/test_name_size.txt",
    ):
        _, found, rest = message.partition(f"missing: {path} (")
        assert found
        assert "python -m lmdb_tools.make_lmdb --layout voc0712 ~/data/VOCdevkit" in rest
    _, _, rest = message.partition("missing: data/VOC0712/labelmap_voc.prototxt (")
    assert "create_label_map" in rest.splitlines()[2]
    assert message.count("made by") == 2
    assert not Path("models").exists()


def test_missing_own_data_is_named_alone(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    make_voc_data()
    assert run("dsod/DSOD300_pascal.py", "--train-data", "mine_lmdb") == 1
    assert "mine_lmdb (training data)" in caplog.text
    assert "ROOT/ LISTFILE mine_lmdb" in caplog.text
    assert caplog.text.count("made by") == 1


def test_trains_on_the_cpu_and_passes_the_exit_status_on(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_voc_data()
    fake_caffe(tmp_path / "bin", monkeypatch, status=3)
    assert run("dsod/DSOD300_pascal.py") == 3
    assert caplog.text.count("no GPU: running on the CPU") == 1
    log = f"jobs/{VOC}/{VOC_MODEL}.log"
    args = f"train --solver=models/{VOC}/solver.prototxt --log={log}"
    assert f"args: {args}\n" in capfd.readouterr().out
    assert solver_of().iter_size == 32


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--snapshot", "gone.solverstate"], "--snapshot: there is no file gone.solverstate"),
        (["--weights", "gone.caffemodel"], "--weights: there is no file gone.caffemodel"),
        (["--fine-tune", "gone.caffemodel"], "cannot read model gone.caffemodel"),
        (["--class-map", "map.txt"], "--class-map says which classes of --fine-tune to keep"),
        (["--label-map", "gone.prototxt"], "cannot read label map gone.prototxt"),
        (["--num-classes", "1"], "--num-classes counts the background: at least 2, not 1"),
        (["--gpu", "0,x"], "--gpu must be ids like 0,1,2, all or none, got '0,x'"),
        (["--gpu", "1,1"], "--gpu names a GPU twice"),
        (["--gpu", "all"], "--gpu all: this machine has no GPU"),
    ],
)
def test_refusals(
    run: Run, caplog: pytest.LogCaptureFixture, args: list[str], message: str
) -> None:
    assert run("dsod/DSOD300_pascal.py", "--no-run", *args) == 1
    assert message in caplog.text


def test_usage_errors(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dsod/DSOD300_pascal.py", "--batch-size", "0") == 2
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_choice_of_gpus() -> None:
    assert devices.choose_gpus(None, 3) == [0, 1, 2]
    assert devices.choose_gpus(None, 16) == list(range(8))
    assert devices.choose_gpus("all", 16) == list(range(16))
    assert devices.choose_gpus("none", 2) == []
    with pytest.raises(ValueError, match="there is no GPU 2, this machine has GPUs 0 to 1"):
        devices.choose_gpus("0,2", 2)


def test_score_takes_the_newest_model(run: Run) -> None:
    folder = Path(f"models/{VOC}")
    folder.mkdir(parents=True)
    for number in (8000, 10000):
        (folder / f"{VOC_MODEL}_iter_{number}.caffemodel").touch()
    assert run("dsod/score_DSOD300_pascal.py", "--no-run") == 0
    solver = solver_of(f"models/{VOC}_score")
    assert (solver.max_iter, solver.test_initialization) == (0, True)
    assert not solver.snapshot_after_train
    assert solver.show_per_class_result
    assert solver.train_net == f"models/{VOC}_score/train.prototxt"
    train = net_of("train", f"models/{VOC}_score").layer[0]
    assert train.data_param.source == "examples/VOC0712/VOC0712_test_lmdb"
    shell = Path(f"jobs/{VOC}_score/{VOC_MODEL}.sh").read_text()
    assert f'--weights="models/{VOC}/{VOC_MODEL}_iter_10000.caffemodel" \\' in shell
    assert "\n--gpu 0 --log=" in shell


def test_score_without_a_model(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run("dsod/score_DSOD300_pascal.py", "--no-run") == 1
    assert "nothing to score" in caplog.text
    assert "--weights" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "layout"),
    [
        (datasets.VOC0712, "voc0712"),
        (datasets.VOC0712_PLUS, "voc0712plus"),
        (datasets.VOC12, "voc12"),
        (datasets.COCO, "coco"),
        (datasets.COCO_TEST_DEV, "coco_test_dev"),
    ],
)
def test_defaults_are_what_the_data_tools_make(dataset: datasets.Dataset, layout: str) -> None:
    recipe = LAYOUTS[layout]
    assert recipe.folder is not None
    name = Path(recipe.folder).name
    names = recipe.splits
    databases = recipe.databases or {each: f"{name}_{each}_lmdb" for each in names}
    links = [f"examples/{name}/{databases[each]}" for each in names]
    assert [dataset.train_data, dataset.test_data][-len(names) :] == links
    assert dataset.label_map == f"{recipe.folder}/{recipe.label_map}"
    assert dataset.name_size_file == f"{recipe.folder}/{recipe.size_file}"
    assert f"--layout {layout} " in dataset.preparation
    assert datasets.count_classes(str(ROOT / dataset.label_map)) == dataset.num_classes
