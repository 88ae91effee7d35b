"""The scripts of every family: the files of the originals, starting weights, fine-tuning."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import caffe
import pytest
from caffe.models.recipe import Family, make_nets
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from tests.examples.conftest import EXAMPLES, Run
from tests.support.golden import GOLDEN

SCRIPTS = {
    "GRP_DSOD320_pascal": "grp_dsod/GRP_DSOD320_pascal.py",
    "ssd_pascal": "ssd/ssd_pascal.py",
    "scratchdet_pascal": "scratchdet/scratchdet_pascal.py",
    "scratchdet_coco": "scratchdet/scratchdet_coco.py",
}
SSD_JOB = "models/VGGNet/VOC0712/SSD_300x300"
VGG = "models/VGGNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel"


def net_of(path: str) -> Any:
    net: Any = caffe_pb2.NetParameter()
    return text_format.Parse(Path(path).read_text(), net)


def shell_of(job: str) -> str:
    (path,) = Path(job.replace("models", "jobs", 1)).glob("*.sh")
    return path.read_text()


@pytest.mark.parametrize("folder", SCRIPTS)
def test_shell_jobs_without_flags_are_the_published_ones(
    run: Run, tmp_path: Path, folder: str
) -> None:
    Path("build/tools").mkdir(parents=True)
    Path("build/tools/caffe").touch()
    assert run(SCRIPTS[folder], "--no-run") == 0
    recorded = json.loads((GOLDEN / "nets" / folder / "paths.json").read_text())
    (job,) = Path("jobs").rglob("*.sh")
    assert job.name == recorded["job_file"]
    lines = [line.replace("<caffe_root>", str(tmp_path)) for line in recorded["job_lines"]]
    assert job.read_text().splitlines() == lines


# claims/ trains on the CPU only, and has a test of its own.
HELPFUL = sorted(path for path in EXAMPLES.glob("*/*.py") if path.parent.name != "claims")


@pytest.mark.parametrize("path", HELPFUL, ids=lambda path: path.name)
def test_help(run: Run, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if path.name == "ablations.py":
        assert run("dsod/ablations.py") == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 12
        assert lines[1].startswith("  1  DS/32-12-16-0.5")
        assert "4.110508" in lines[1]
        return
    assert run(str(path.relative_to(EXAMPLES)), "--help") == 0
    assert "--gpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("dsod/DSOD300_pascal12.py", "models/DSOD300/VOC12/DSOD300_300x300"),
        ("ssd/ssd_coco.py", "models/VGGNet/coco/SSD_300x300"),
    ],
)
def test_places(run: Run, name: str, folder: str) -> None:
    assert run(name, "--no-run") == 0
    assert Path(folder, "train.prototxt").is_file()


def test_other_bases_of_ssd(run: Run) -> None:
    assert run("ssd/ssd_pascal_zf.py", "--no-run") == 0
    deploy = net_of("models/ZFNet/VOC0712/SSD_zf_300x300/deploy.prototxt")
    assert "conv2_norm_mbox_loc" in {layer.name for layer in deploy.layer}
    assert run("ssd/ssd_pascal_resnet.py", "--no-run") == 0
    job = "models/ResNet/VOC0712/SSD_resnet101_300x300"
    train, deploy = (net_of(f"{job}/{kind}.prototxt") for kind in ("train", "deploy"))
    priors = [layer.prior_box_param for layer in deploy.layer if layer.type == "PriorBox"]
    assert [len(prior.max_size) for prior in priors] == [0, 1, 1, 1, 1, 1]
    assert all(prior.clip for prior in priors)
    transform = train.layer[0].transform_param
    assert not transform.HasField("distort_param")
    assert not transform.HasField("expand_param")
    assert "models/ResNet/ResNet-101-model.caffemodel" in shell_of(job)


def test_timing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    script, folder = "ssd/ssd_pascal_speed.py", f"{SSD_JOB}_speed"
    flags = ["--no-run", "--gpu", "2,3", "--test-batch-size", "4", "--passes", "7"]
    assert run(script, *flags) == 0
    assert "no trained weights: how long a detector takes depends" in caplog.text
    net = net_of(f"{folder}/test.prototxt")
    assert list(net.layer[0].top) == ["data"]
    assert net.layer[0].data_param.batch_size == 4
    assert [layer.type for layer in net.layer[-2:]] == ["DetectionOutput", "Silence"]
    assert not net.layer[-2].detection_output_param.HasField("save_output_param")
    words = shell_of(folder)
    assert "caffe time" in words
    assert "--phase=TEST" in words
    assert "--iterations=7" in words
    assert "--gpu 2 " in words
    assert not Path(folder, "solver.prototxt").exists()


def test_score_of_coco(run: Run) -> None:
    """The snapshot of ssd_coco.py, on COCO's test set."""
    job = "models/VGGNet/coco/SSD_300x300"
    Path(job).mkdir(parents=True)
    Path(job, "VGG_coco_SSD_300x300_iter_400000.caffemodel").touch()
    assert run("ssd/score_ssd_coco.py", "--no-run") == 0
    assert f"{job}/VGG_coco_SSD_300x300_iter_400000.caffemodel" in shell_of(f"{job}_score")
    assert "minival" in Path(f"{job}_score", "test.prototxt").read_text()


def test_score_of_test_dev(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """COCO's test set, looked at several times; the server names the result file."""
    job = "models/RESNet/coco/SSD_0710_root_res34_coco_300x300"
    Path(job).mkdir(parents=True)
    name = "ROOT_RESNet300_coco_SSD_0710_root_res34_coco_300x300_iter_325000.caffemodel"
    Path(job, name).touch()
    script, looks = "scratchdet/score_scratchdet_pascal.py", ["--scales", "0.8,1.2", "--flip"]
    common = ["--no-run", "--data", "coco"]
    assert run(script, *common, "--test-dev") == 0
    shell = shell_of(f"{job}_score_test-dev")
    assert "caffe train" in shell
    test = Path(f"{job}_score_test-dev", "test.prototxt").read_text()
    assert "detections_test-dev2015_ROOT_RESNet300_results" in test
    assert "num_test_image: 20288" in test
    assert run(script, *common, "--test-dev", *looks, "--merge", "nms") == 0
    shell = shell_of(f"{job}_score_test-dev_multi")
    words = shlex.split(shell.replace("\\\n", " ").splitlines()[1].partition(" 2>&1")[0])
    assert words[:2] == ["caffe", "test"]
    assert words[3:7] == [f"--weights={job}/{name}", "--scales=0.8,1.2", "--flip", "--merge=nms"]
    assert run(script, "--no-run", "--test-dev") == 1
    assert "--test-dev is a test set of COCO: it goes with --data coco" in caplog.text
    assert run(script, *common, "--merge", "nms") == 1
    assert "--merge says what becomes of several looks" in caplog.text


def test_starting_weights(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    data = ["--num-test-image", "4", "--name-size-file", "x"]
    for name in ("trainval", "test"):
        Path(f"examples/VOC0712/VOC0712_{name}_lmdb").mkdir(parents=True)
    for name in ("labelmap_voc.prototxt", "test_name_size.txt"):
        Path("data/VOC0712").mkdir(parents=True, exist_ok=True)
        Path("data/VOC0712", name).touch()
    assert run("ssd/ssd_pascal.py") == 1
    assert f"starts from {VGG}, which is missing" in caplog.text
    assert "--weights none" in caplog.text
    assert not Path("models").exists()
    assert run("ssd/ssd_pascal.py", "--no-run", "--weights", "none", *data[:2]) == 0
    assert "--weights" not in shell_of(f"{SSD_JOB}_from_none")
    assert run("ssd/ssd_pascal.py", "--no-run", "--variant", "scratch_bn") == 0
    job = "models/VGGNet/VOC0712/SSD_scratch_bn_300x300"
    assert "--weights" not in shell_of(job)
    solver: Any = caffe_pb2.SolverParameter()
    text_format.Parse(Path(job, "solver.prototxt").read_text(), solver)
    assert solver.base_lr == pytest.approx(0.05)


def save_model(folder: Path, family: Family, data: str, num_classes: int) -> str:
    """Save a tiny model straight from its fillers."""
    recipe = family.recipe(data, "tiny")
    recipe = recipe._replace(dataset=recipe.dataset._replace(num_classes=num_classes))
    deploy = make_nets(recipe, "")["deploy"]
    deploy.layer[-1].detection_output_param.ClearField("save_output_param")
    path = folder / "deploy.prototxt"
    path.write_text(str(deploy))
    net = caffe.Net(str(path), caffe.TEST)
    net.save(str(folder / "trained.caffemodel"))
    return str(folder / "trained.caffemodel")


def test_fine_tuning_a_coco_model(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = save_model(tmp_path, SCRATCHDET, "coco", 81)
    data = Path("data/coco")
    data.mkdir(parents=True)
    source = EXAMPLES.parent / "data" / "coco" / "coco_voc_map.txt"
    (data / "coco_voc_map.txt").write_text(source.read_text())
    script = "scratchdet/scratchdet_pascal.py"
    assert run(script, "--no-run", "--variant", "tiny", "--fine-tune", model) == 0
    assert "kept 21 of 81 classes" in caplog.text
    (folder,) = Path("models/ROOT_TINY/VOC0712").glob("SSD_root_tiny_128x128_fine_tuned_*")
    job = str(folder)
    start = f"{job}/start.caffemodel"
    assert f'--weights="{start}"' in shell_of(job)
    solver: Any = caffe_pb2.SolverParameter()
    text_format.Parse(Path(job, "solver.prototxt").read_text(), solver)
    assert solver.base_lr == pytest.approx(0.001)
    # The head has the batch norm of the model for COCO; that of VOC's own has none.
    deploy: Any = caffe_pb2.NetParameter()
    text_format.Parse(Path(job, "deploy.prototxt").read_text(), deploy)
    deploy.layer[-1].detection_output_param.ClearField("save_output_param")
    Path("fine.prototxt").write_text(str(deploy))
    net = caffe.Net("fine.prototxt", start, caffe.TEST)
    old = caffe.Net(str(tmp_path / "deploy.prototxt"), model, caffe.TEST)
    name = "conv4_2_mbox_conf"
    ours, theirs = net.params[name][0].data, old.params[name][0].data
    priors = ours.shape[0] // 21
    aeroplane = ours.reshape(priors, 21, -1)[:, 1]
    assert (aeroplane == theirs.reshape(priors, 81, -1)[:, 5]).all()


def test_fine_tuning_to_own_classes(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = save_model(tmp_path, SCRATCHDET, "shapes", 6)
    Path("map.prototxt").write_text("item { name: 'cell' label: 1 }")
    args = ["--no-run", "--data", "shapes", "--variant", "tiny", "--fine-tune", model]
    script = "scratchdet/scratchdet_pascal.py"
    assert run(script, *args, "--label-map", "map.prototxt") == 0
    assert "6 classes, not 2: class predictions start anew" in caplog.text
    assert "not taken over: conv4_2_norm_mbox_conf, conv4_2_norm_mbox_conf_bn" in caplog.text
    assert run(script, *args, "--base-lr", "0.01", "--model-dir", "same") == 0
    (path,) = Path("jobs").rglob("*_lr0.01_*.sh")
    assert f'--weights="{model}"' in path.read_text()  # the same classes: as it is
    assert "models/ROOT_TINY" not in path.read_text()


def layer_types(path: Path) -> set[str]:
    net: Any = caffe_pb2.NetParameter()
    text_format.Parse(path.read_text(), net)
    return {layer.type for layer in net.layer}


def test_group_norm(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    args = ["--no-run", "--data", "shapes", "--variant", "tiny"]
    script = "dsod/DSOD300_pascal.py"
    for normalizer, there, gone in (
        ("batch", "BatchNorm", "GroupNorm"),
        ("group", "GroupNorm", "BatchNorm"),
    ):
        assert run(script, *args, "--normalizer", normalizer) == 0
        folder = Path("models/DSOD_tiny/shapes/DSOD_tiny_128x128")
        folder = folder.with_name(folder.name + "_group_norm" * (normalizer == "group"))
        for kind in ("train", "test", "deploy"):
            types = layer_types(folder / f"{kind}.prototxt")
            assert there in types
            assert gone not in types
    assert run("ssd/ssd_pascal.py", "--no-run", "--normalizer", "group") == 1
    assert "normalizer 'group' takes the place of batch norm, the net has none" in caplog.text
