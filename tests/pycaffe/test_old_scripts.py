"""`caffe run`: scripts in the manner of their time, run unchanged (tests/pycaffe/old_scripts)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from caffe.old_scripts import compiled
from caffe.old_scripts.dialect import Dialect, dialect_of
from caffe.old_scripts.translate import ScriptError
from caffe.proto import caffe_pb2
from google.protobuf import text_format

from caffe_ssd.cli.main import main
from tests.pycaffe.tiny import make_net, write_net, write_solver

# Scripts of the time leave files open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCRIPTS = Path(__file__).parent / "old_scripts"
CLASSES = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 4 dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def run(script: str, *arguments: str) -> int:
    return main(["run", str(SCRIPTS / script), *arguments])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("helpers_of_old",):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_training_script_and_its_job(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = list(sys.argv), list(sys.path), list(sys.meta_path)
    assert run("train_detector.py") == 0
    shown = capfd.readouterr()
    assert "35 [6, 12, 35, 57] [12, 35, 57, 80]" in shown.out
    assert "conv1" in shown.out
    solver = text_format.Parse(
        Path("models/OLD_64x64/solver.prototxt").read_text(), caffe_pb2.SolverParameter()
    )
    assert solver.iter_size == 2  # 15 / 6
    assert Path("models/OLD_64x64/SMALL_OLD_64x64_iter_2.caffemodel").exists()
    assert "Optimization Done" in Path("jobs/OLD_64x64/SMALL_OLD_64x64.log").read_text()
    assert not Path("build").exists()  # the folder is as it was
    assert (sys.argv, sys.path, sys.meta_path) == before
    # It resumes as it always did.
    assert run("train_detector.py") == 0
    assert "--snapshot" in Path("jobs/OLD_64x64/SMALL_OLD_64x64.sh").read_text()


def test_an_own_build_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    tool = Path("build/tools/caffe")
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho own build: $1\n")
    tool.chmod(0o755)
    assert run("train_detector.py") == 0
    assert "own build: train" in capfd.readouterr().out
    assert list(tool.parent.iterdir()) == [tool]


def test_print_statements_and_whole_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_net(tmp_path, CLASSES)
    make_net(tmp_path, CLASSES).save("w.caffemodel")
    assert run("classify.py", path, "w.caffemodel") == 0
    shown = capsys.readouterr()
    first, *ranks = shown.out.splitlines()
    assert first == "input 0 3 of ['data', 'fc', 'prob']"  # 0 to 71, divided by 18
    assert [rank.split(" class ")[0] for rank in ranks] == ["1.", "2.", "3."]
    assert "middle" in shown.err


def test_solver_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(write_solver(tmp_path)).rename("solver.prototxt")
    assert run("solve.py") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"Iteration {i} testing..." for i in (0, 3, 6)]
    assert lines[3] == "3 slots, 3 half"
    assert lines[4].startswith("no blob")


def test_net_surgery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(write_net(tmp_path, CLASSES)).rename("net.prototxt")
    assert run("surgery.py") == 0
    assert capsys.readouterr().out == "fc (5, 72) 1 2.667\nsaved True\n"
    assert Path("scaled.caffemodel").exists()


def test_log_parser(capsys: pytest.CaptureFixture[str]) -> None:
    Path("log").write_text("Iteration 0, loss = 4.5\nx\nIteration 20, loss = 1.5\n")
    assert run("parse.py", "log") == 0
    assert capsys.readouterr().out == "best: iteration 20 of 2\n6 511 2\n3.0\n"


def test_modules_beside_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("with_modules.py", "--flag", "-x") == 0
    assert capsys.readouterr().out == "3 [2.5, 2.5] --flag -x\n"
    assert not list(SCRIPTS.glob("__pycache__/helpers_of_old*"))


def test_python_3_runs_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("modern.py", "a", "b") == 1
    shown = capsys.readouterr()
    assert shown.out == "3.5 a ['b']\n"
    assert shown.err.endswith("a message\n")


def test_what_both_read_is_taken_for_python_2_aloud(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run("either.py") == 0
    shown = capsys.readouterr()
    assert shown.out == "7\n"
    assert "either.py:4: 30 / 8 is 3, as in Python 2" in shown.err
    assert "32 / 8" not in shown.err
    assert main(["run", "-python", "3", str(SCRIPTS / "either.py")]) == 0
    assert capsys.readouterr().out == "7.75\n"


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        ("print 1", Dialect.PYTHON_2),
        ("for i in xrange(3): pass", Dialect.PYTHON_2),
        ("import cPickle", Dialect.PYTHON_2),
        ("d.iteritems()", Dialect.PYTHON_2),
        ("#!/usr/bin/env python2.7\nx = 1", Dialect.PYTHON_2),
        ("#!/usr/bin/python3\nx = 1", Dialect.PYTHON_3),
        ("x = f'{1}'", Dialect.PYTHON_3),
        ("print('a', end='')", Dialect.PYTHON_3),
        ("from __future__ import print_function\nprint('a', end='')", Dialect.BOTH),
        ("from functools import reduce\nreduce(f, [1])", Dialect.BOTH),
        ("def f(file): return file", Dialect.BOTH),
        ("print('a')", Dialect.BOTH),
    ],
)
def test_dialects(source: str, dialect: Dialect) -> None:
    assert dialect_of(source) is dialect


def test_true_division_asked_for_stays() -> None:
    names: dict[str, object] = {}
    exec(compiled("from __future__ import division\nx = 7 / 2; print x", "s.py"), names)
    assert names["x"] == 3.5


def test_scripts_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "gone.py"]) == 1
    assert "Could not open script gone.py: No such file" in capsys.readouterr().err
    Path("broken.py").write_text("x = (\n")
    assert main(["run", "broken.py"]) == 1
    assert "broken.py is neither Python 2 nor Python 3" in capsys.readouterr().err
    with pytest.raises(ScriptError, match="neither"):
        compiled("print 'a' b c", "s.py")


def test_old_encodings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("latin.py").write_bytes("print u'caf\xe9'\r\nprint 1 / 2\r\n".encode("latin-1"))
    assert main(["run", "latin.py"]) == 0
    assert capsys.readouterr().out == "café\n0\n"
