"""From a run's folder or its solver to its files, from any working folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from caffe_ssd.errors import CaffeError, UsageError
from caffe_ssd.proto.text import read_net
from caffe_ssd.report.run_files import find_run, with_absolute_paths
from tests.report.conftest import SOLVER


def test_a_folder_with_one_solver(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (Path(), run / "pictures"):
        monkeypatch.chdir(run / place)
        for named in (run, run / "solver.prototxt"):
            files = find_run(named)
            assert files.base.resolve() == run
            assert files.test_model == files.base / "test.prototxt"
            assert files.deploy is not None
            assert files.deploy.name == "deploy.prototxt"
            assert [path.name for path in files.weights] == ["tiny_iter_100.caffemodel"]
            assert files.results == files.base / "snap" / "tiny_results.jsonl"
            assert files.label_map is not None
            assert files.label_map.name == "labelmap.prototxt"
            assert files.notes is None
    assert find_run(run).name == run.name
    assert find_run(run / "solver.prototxt").name == "tiny"


def test_a_solver_below(run: Path) -> None:
    (run / "model").mkdir()
    (run / "solver.prototxt").rename(run / "model" / "solver.prototxt")
    files = find_run(run)
    assert files.solver == run / "model" / "solver.prototxt"
    assert files.folder == run
    assert files.base.resolve() == run


def test_the_newest_weights_unless_there_are_better_ones(run: Path) -> None:
    def weights() -> str:
        (path,) = find_run(run).weights
        return path.name

    for name in ("tiny_iter_90.caffemodel", "tiny_iter_1000.caffemodel.h5", "x_iter_5.caffemodel"):
        (run / "snap" / name).touch()
    assert weights() == "tiny_iter_1000.caffemodel.h5"
    (run / "snap" / "tiny_best.caffemodel").touch()
    assert weights() == "tiny_best.caffemodel"
    (run / "detector.caffemodel").touch()
    assert weights() == "detector.caffemodel"
    given = find_run(run, weights=("snap/tiny_iter_90.caffemodel",)).weights
    assert given == (Path("snap/tiny_iter_90.caffemodel"),)


def test_a_net_and_weights_alone(house: Path) -> None:
    files = find_run(None, model="test.prototxt", weights=("w.caffemodel",))
    assert files.solver is None
    assert files.results is None
    assert files.deploy == Path("deploy.prototxt")
    files = find_run("pictures", model="test.prototxt", weights=("w.caffemodel",))
    assert files.folder == Path("pictures")


def test_one_clear_error(run: Path) -> None:
    with pytest.raises(UsageError, match=r"both a model and weights"):
        find_run(None, model="test.prototxt")
    with pytest.raises(UsageError, match=r"nowhere: no such folder"):
        find_run("nowhere")
    with pytest.raises(UsageError, match=r"pictures is no run: there is no solver.prototxt"):
        find_run("pictures")
    (run / "lmdb" / "solver.prototxt").write_text(SOLVER)
    with pytest.raises(UsageError, match=r"holds 2 solvers .*name one of them"):
        find_run(run)
    (run / "solver.prototxt").write_text("base_lr: fast")
    with pytest.raises(CaffeError, match=r"solver.prototxt"):
        find_run(run / "solver.prototxt")


def test_paths_of_data_layers_become_absolute(run: Path) -> None:
    net = read_net(run / "test.prototxt")
    moved = with_absolute_paths(net, run)
    assert moved.layer[0].data_param.source == os.fspath(run / "lmdb")
    assert net.layer[0].data_param.source == "lmdb"
    assert not moved.layer[0].transform_param.HasField("mean_file")
