"""Two recipes never share a folder: each flag that changes numbers starts a training of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from caffe.models.dsod_recipes import DSOD
from caffe.models.flag_parser import ScriptParser
from caffe.models.recipe import Family
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.script import scoring_parser, training_parser
from caffe.models.ssd_recipes import SSD
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from tests.examples.conftest import Run
from tests.examples.test_family_scripts import save_model

# A value for every flag that a script has: a new flag without one fails a test.
VALUES = {
    "variant": "lite",
    "data": "VOC12",
    "normalizer": "group",
    "statistics_kept": "0.99",
    "dataset_name": "mine",
    "train_data": "mine_lmdb",
    "test_data": "mine_test_lmdb",
    "name_size_file": "sizes.txt",
    "num_test_image": "7",
    "label_map": "map.prototxt",
    "num_classes": "5",
    "batch_size": "2",
    "accum_batch_size": "64",
    "max_iter": "500",
    "step_values": "300 400",
    "base_lr": "0.05",
    "random_seed": "3",
    "gpu": "0,1,2",
    "model_dir": "m",
    "job_dir": "j",
    "output_dir": "o",
    "no_run": "",
    "test_interval": "77",
    "snapshot_interval": "77",
    "debug_info": "",
    "workers": "2",
    "fast_augment": "",
    "checkpoint": "",
    "sync_bn": "",
    "sync_loss": "",
    "weights": "start.caffemodel",
    "fine_tune": "trained.caffemodel",
    "class_map": "map.txt --fine-tune trained.caffemodel",
    "snapshot": "other.solverstate",
    "no_resume": "",
}
SCORING_ONLY = {"test_dev", "scales", "flip", "merge"}
SPELLINGS = {"debug_info": "--no-debug-info"}
# What a solver says beside the course of a training. Passes are judged by images per iteration.
NOT_THE_COURSE = (
    *("train_net", "test_net", "test_iter", "test_interval", "test_initialization", "display"),
    *("snapshot", "snapshot_prefix", "debug_info", "solver_mode", "device_id", "iter_size"),
)
EXTRAS_THAT_CHANGE_NUMBERS = ("--skip_jpeg_roundtrip", "--sync-bn", "--sync-loss")
TRAININGS = ((DSOD, "dsod/DSOD300_pascal.py"),)


def flags_of(parser: ScriptParser) -> set[str]:
    return {action.dest for action in parser._actions} - {"help"}


def words(name: str) -> list[str]:
    return [SPELLINGS.get(name, "--" + name.replace("_", "-")), *VALUES[name].split()]


def make_files(folder: Path) -> None:
    model = Path(save_model(folder, DSOD, "VOC0712", 21))
    model.rename("trained.caffemodel")
    Path("start.caffemodel").touch()
    Path("other.solverstate").touch()
    Path("sizes.txt").write_text("a 1 2\n")
    Path("map.prototxt").write_text("item { name: 'cell' label: 1 }")
    Path("map.txt").write_text("".join(f"{i},{i},x\n" for i in range(21)))


class Job:
    """What the last call of a script wrote."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.rglob("*/solver.prototxt"), key=lambda path: path.stat().st_mtime_ns)
        solvers = [path for path in paths if "jobs" not in path.parts and "j" not in path.parts]
        self.solver: Any = caffe_pb2.SolverParameter()
        text_format.Parse(solvers[-1].read_text(), self.solver)
        self.net: Any = caffe_pb2.NetParameter()
        text_format.Parse(Path(self.solver.train_net).read_text(), self.net)
        shells = sorted(folder.rglob("*.sh"), key=lambda path: path.stat().st_mtime_ns)
        self.shell = shells[-1].read_text()

    @property
    def prefix(self) -> str:
        return str(self.solver.snapshot_prefix)

    def course(self) -> tuple[object, ...]:
        """Everything that decides what numbers a training without snapshot has."""
        solver = caffe_pb2.SolverParameter()
        solver.CopyFrom(self.solver)
        for field in NOT_THE_COURSE:
            solver.ClearField(field)
        last = self.shell.splitlines()[-1]
        devices = last.count(",") + 1 if "--gpu" in last else 1
        batch = self.net.layer[0].data_param.batch_size
        net = caffe_pb2.NetParameter()
        net.CopyFrom(self.net)
        net.ClearField("name")
        net.layer[0].annotated_data_param.ClearField("label_map_file")
        start = [line for line in self.shell.splitlines() if line.startswith("--weights")]
        extras = [flag for flag in EXTRAS_THAT_CHANGE_NUMBERS if flag in self.shell]
        images = batch * devices * self.solver.iter_size
        return str(solver), str(net), images, tuple(start), tuple(extras)


@pytest.fixture(params=[DSOD, SSD, SCRATCHDET], ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def test_every_flag_has_a_value_here(family: Family) -> None:
    assert flags_of(training_parser(family, "VOC0712", "x.py")) == set(VALUES)
    assert flags_of(scoring_parser(family, "VOC0712", "x.py")) <= set(VALUES) | SCORING_ONLY


def test_every_flag_says_what_it_changes(family: Family) -> None:
    for make in (training_parser, scoring_parser):
        parser = make(family, "VOC0712", "x.py")
        assert {flag.name for flag in parser.flags} == flags_of(parser)


@pytest.mark.parametrize("name", VALUES)
def test_a_flag_that_changes_numbers_trains_from_the_beginning(
    run: Run, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Recipe A is trained for 4 iterations, then recipe B differs in one flag."""
    make_files(tmp_path)
    script, common = "dsod/DSOD300_pascal.py", ["--no-run", "--variant", "tiny"]
    common += ["--gpu", "0"] if name != "gpu" else []
    assert run(script, *common) == 0
    first = Job(tmp_path)
    Path(f"{first.prefix}_iter_4.solverstate").touch()
    caplog.clear()
    assert run(script, *common, *words(name)) == 0
    second = Job(tmp_path)
    if second.course() != first.course():
        assert second.prefix != first.prefix
        assert "resuming from models" not in caplog.text
        assert "--snapshot=" not in second.shell
    elif name not in ("snapshot", "no_resume", "model_dir", "dataset_name", "data", "variant"):
        assert second.prefix == first.prefix  # what changes nothing goes on
        assert "resuming from models" in caplog.text


def test_the_same_command_resumes(run: Run, tmp_path: Path) -> None:
    flags = ["--no-run", "--gpu", "0", "--base-lr", "0.05", "--max-iter", "300"]
    assert run("dsod/DSOD300_pascal.py", *flags) == 0
    prefix = Job(tmp_path).prefix
    assert prefix.endswith("DSOD300_300x300_iterations300_lr0.05")
    Path(f"{prefix}_iter_4.solverstate").touch()
    assert run("dsod/DSOD300_pascal.py", *flags[::-1][:4][::-1], *flags[:3]) == 0
    assert '--snapshot="auto"' in Job(tmp_path).shell


def test_published_values_keep_the_published_folder(run: Run, tmp_path: Path) -> None:
    flags = ["--batch-size", "4", "--base-lr", "0.1", "--max-iter", "100000"]
    flags += ["--normalizer", "batch", "--weights", "none", "--num-classes", "21"]
    assert run("dsod/DSOD300_pascal.py", "--no-run", *flags) == 0
    assert Path("models/DSOD300/VOC0712/DSOD300_300x300/solver.prototxt").exists()


def images_per_iteration(job: Job) -> int:
    images = job.course()[2]
    assert isinstance(images, int)
    return images


@pytest.mark.parametrize(
    ("script", "total"),
    [
        ("dsod/DSOD300_pascal.py", 128),
        ("grp_dsod/GRP_DSOD320_pascal.py", 144),  # 8 devices x 6 images x 3 passes
        ("ssd/ssd_pascal.py", 32),
        ("scratchdet/scratchdet_pascal.py", 128),
        ("scratchdet/scratchdet_coco.py", 128),
    ],
)
@pytest.mark.parametrize("gpus", ["none", "0", "0,1", "0,1,2,3", "0,1,2,3,4,5,6,7"])
def test_devices_keep_the_published_total(
    run: Run, tmp_path: Path, script: str, total: int, gpus: str
) -> None:
    assert run(script, "--no-run", "--gpu", gpus) == 0
    job = Job(tmp_path)
    assert images_per_iteration(job) == total
    assert "_total" not in job.prefix


def test_a_batch_that_the_devices_change_is_said(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = "scratchdet/scratchdet_pascal.py"
    assert run(script, "--no-run", "--gpu", "0,1,2,3,4,5,6,7") == 0
    assert "16 images per device and pass, not 32: 8 devices share 128" in caplog.text
    prefix = Job(tmp_path).prefix
    assert prefix.endswith("_batch16")
    assert run(script, "--no-run", "--gpu", "0,1,2,3,4,5,6,7", "--batch-size", "16") == 0
    assert Job(tmp_path).prefix == prefix  # the same training
    assert run(script, "--no-run", "--gpu", "0,1", "--batch-size", "16") == 0
    assert (Job(tmp_path).prefix, images_per_iteration(Job(tmp_path))) == (prefix, 128)


@pytest.mark.parametrize(
    ("flags", "total"),
    [
        (["--gpu", "0,1,2"], 132),  # three devices cannot share 128
        (["--gpu", "0,1,2,3,4,5,6,7", "--batch-size", "32"], 256),
        (["--gpu", "0", "--accum-batch-size", "7", "--batch-size", "4"], 8),
    ],
)
def test_a_total_that_the_devices_change_is_said(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, flags: list[str], total: int
) -> None:
    script = "dsod/DSOD300_pascal.py" if total == 132 else "scratchdet/scratchdet_pascal.py"
    assert run(script, "--no-run", *flags) == 0
    assert f"{total} images per iteration, not " in caplog.text
    job = Job(tmp_path)
    assert job.prefix.endswith(f"_total{total}")
    assert images_per_iteration(job) == total


def test_twelve_per_device_are_192_on_any_number_of_devices(run: Run, tmp_path: Path) -> None:
    for gpus in ("none", "0,1", "0,1,2,3,4,5,6,7"):
        assert run("dsod/DSOD300_pascal.py", "--no-run", "--batch-size", "12", "--gpu", gpus) == 0
        job = Job(tmp_path)
        assert (images_per_iteration(job), job.prefix[-8:]) == (192, "_batch12")


def test_scoring_finds_the_training_by_its_flags(run: Run, tmp_path: Path) -> None:
    assert run("dsod/DSOD300_pascal.py", "--no-run", "--batch-size", "12") == 0
    prefix = Job(tmp_path).prefix
    Path(f"{prefix}_iter_9.caffemodel").touch()
    assert run("dsod/score_DSOD300_pascal.py", "--no-run", "--batch_size=12") == 0
    assert f'--weights="{prefix}_iter_9.caffemodel"' in Job(tmp_path).shell


def test_files_of_one_name_in_two_folders_are_two_starts(run: Run, tmp_path: Path) -> None:
    prefixes = set()
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "x.caffemodel").touch()
        start = ["--weights", f"{folder}/x.caffemodel"]
        assert run("dsod/DSOD300_pascal.py", "--no-run", *start) == 0
        prefixes.add(Job(tmp_path).prefix)
    assert len(prefixes) == 2


def test_long_names_are_shortened(run: Run, tmp_path: Path) -> None:
    steps = [str(1000 + i) for i in range(60)]
    prefixes = set()
    for last in ("5000", "6000"):
        assert run("dsod/DSOD300_pascal.py", "--no-run", "--step-values", *steps, last) == 0
        prefixes.add(Job(tmp_path).prefix)
    assert len(prefixes) == 2
    assert all(len(Path(prefix).name) < 200 for prefix in prefixes)


def test_both_spellings_parse_and_help_shows_one() -> None:
    parser = training_parser(DSOD, "VOC0712", "x.py")
    for words_ in (["--batch-size", "3"], ["--batch_size", "3"], ["--batch_size=3"]):
        assert parser.parse_args(words_).batch_size == 3
    assert parser.parse_args(["--model_dir", "a_b"]).model_dir == "a_b"
    text = parser.format_help()
    assert "--batch-size" in text
    assert "_size" not in text.replace("name_size", "")
    assert "example: python x.py --batch-size 8 --gpu 0" in text
