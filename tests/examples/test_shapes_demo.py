"""The demo: its recipe makes nets that build, and a tiny run of its script goes through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from caffe.models.dsod_recipes import dsod_shapes
from caffe.models.job import write_prototxt
from caffe.models.recipe import default_places, make_nets, make_solver
from caffe.models.shapes import SHAPES

from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetState
from caffe_ssd.proto.text import read_net
from lmdb_tools.shapes_drawing import CLASSES

DEMO = Path(__file__).resolve().parents[2] / "examples" / "shapes" / "demo.sh"


def run_demo(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run demo.sh into a folder, with the tools that belong to this Python."""
    tools = str(Path(sys.executable).parent)
    path = os.pathsep.join([tools, os.environ["PATH"]])
    return subprocess.run(
        ["sh", str(DEMO), str(folder)],
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def deploy(tmp_path: Path) -> Net:
    path = tmp_path / "deploy.prototxt"
    write_prototxt(str(path), make_nets(dsod_shapes(), "results")["deploy"])
    param = read_net(path)
    for layer in param.layer:
        if layer.type == "DetectionOutput":  # it would look for the test set's files
            layer.detection_output_param.ClearField("save_output_param")
    return build_net(param, NetState(phase="TEST"))


class TestRecipe:
    def test_steps_are_those_of_the_maps(self, deploy: Net) -> None:
        shapes = dict(zip(deploy.blob_names, deploy.blob_shapes, strict=True))
        detector = dsod_shapes().detector
        sizes = [shapes[name][2:] for name in detector.body.sources]
        assert sizes == [(detector.image_size // step,) * 2 for step in detector.steps]

    def test_classes_are_those_that_are_drawn(self) -> None:
        assert SHAPES.num_classes == len(CLASSES) + 1

    def test_training_ends_with_a_test_and_a_snapshot(self) -> None:
        recipe = dsod_shapes()
        solver = make_solver(recipe, default_places(recipe), [])
        assert solver.max_iter % solver.test_interval == 0
        assert solver.snapshot_after_train
        assert solver.test_iter[0] * recipe.schedule.test_batch_size == SHAPES.num_test_image
        assert solver.iter_size == 1


class TestScript:
    def test_leaves_a_folder_with_other_files_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        result = run_demo(tmp_path)
        assert result.returncode == 2
        assert "is no demo" in result.stderr
        assert (tmp_path / "thesis.txt").read_text() == "years of work"

    def test_tiny_run_over_an_older_one(self, tmp_path: Path) -> None:
        out = tmp_path / "demo"
        out.mkdir()
        (out / ".shapes_demo").touch()
        (out / "old").touch()
        result = run_demo(out, SHAPES_TRAIN="40", SHAPES_TEST="10", ITERATIONS="3")
        assert result.returncode == 0, result.stderr
        assert not (out / "old").exists()
        assert "$ caffe train -solver model/solver.prototxt" in result.stdout
        *_, before, last = result.stdout.splitlines()
        assert re.fullmatch(rf"mAP [\d.e-]+ after \d+ minutes; .* {re.escape(str(out))}/.*", before)
        assert last == f"report: {out}/report.html"
        assert (out / "report.html").read_text(encoding="utf-8").startswith("<!")
        for number in range(3):
            drawn = cv2.imread(str(out / f"detections/test_0000{number}.jpg"))
            assert drawn is not None
            assert max(drawn.shape) == 480
