"""The commands on the simulated device: training with tests, resuming, scoring, detecting."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_ssd.cli.main import main
from lmdb_tools.convert_annoset import main as convert_annoset
from lmdb_tools.shapes import make_shapes
from tests.device.test_simulated import ROOT, guard, pytestmark, run

__all__ = ["guard", "pytestmark"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, databases, and the nets of a small DSOD with a solver of 4 iterations."""
    place = tmp_path_factory.mktemp("commands")
    shapes = place / "shapes"
    make_shapes(str(shapes), num_train=6, num_test=2, size=96, seed=5)
    for part in ("trainval", "test"):
        lists = [f"{shapes}/", f"{shapes}/{part}.txt", str(place / f"shapes_{part}_lmdb")]
        labels = f"--label_map_file={shapes}/labelmap_shapes.prototxt"
        flags = ["--anno_type=detection", labels, "--encode_type=jpg", "--encoded"]
        assert convert_annoset([*flags, *lists]) == 0
    script = [sys.executable, str(ROOT / "examples/shapes/DSOD_shapes.py"), "--no-run"]
    sizes = "--max-iter 4 --snapshot-interval 2 --test-interval 2 --num-test-image 2"
    places = "--batch-size 2 --accum-batch-size 2 --model-dir model --job-dir job"
    words = f"{sizes} {places} --output-dir results --random-seed 1 --gpu none".split()
    subprocess.run([*script, *words], cwd=place, check=True)
    return place


def losses(results: Path) -> list[float]:
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def commands(guard: Path, folder: Path, *lines: list[str]) -> list[int]:
    """Exit statuses of `caffe` on the device."""
    found: list[int] = run(guard, "command", *map(json.dumps, lines), cwd=folder)["statuses"]
    return found


def test_training_resuming_scoring_and_detecting(
    guard: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    solver = next(Path("model").glob("**/solver.prototxt"))
    text = re.sub(r"\bdisplay: \d+", "display: 1", solver.read_text())
    prefix = next(line.split('"')[1] for line in text.splitlines() if "snapshot_prefix" in line)
    Path("whole.prototxt").write_text(text)
    Path("host.prototxt").write_text(text.replace(prefix, "host/net"))
    Path("host").mkdir()
    train = ["train", "-workers", "0", "-solver"]
    device = ["-gpu", "0"]
    assert main([*train, "host.prototxt"]) == 0
    assert commands(guard, folder, [*train, "whole.prototxt", *device]) == [0]
    want, have = (losses(Path(f"{each}_results.jsonl")) for each in ("host/net", prefix))
    assert len(have) == 4
    assert have == pytest.approx(want, rel=1e-3)
    weights = Path(f"{prefix}_iter_4.caffemodel")
    whole = weights.read_bytes()
    weights.unlink()
    Path("graph.prototxt").write_text(text.replace(prefix, "graph/net"))
    Path("graph").mkdir()
    graph = [*train, "graph.prototxt", *device, "-cuda_graph"]
    assert commands(guard, folder, graph) == [0]
    assert Path("graph/net_iter_4.caffemodel").read_bytes() == whole
    net = ["-model", str(solver.with_name("test.prototxt")), "-weights", str(weights)]
    deploy = ["-model", str(solver.with_name("deploy.prototxt")), "-weights", str(weights)]
    statuses = commands(
        guard,
        folder,
        [*train, "whole.prototxt", *device, "-snapshot", f"{prefix}_iter_2.solverstate"],
        ["test", *net, *device],
        ["detect", "shapes/JPEGImages", *deploy, *device, "-threshold", "0.01"],
    )
    assert statuses == [0, 0, 0]
    assert weights.read_bytes() == whole
