"""Streams that are closed, full or narrow: one line, the right exit status, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = f"{sys.executable} -c 'import sys; from caffe_ssd.cli.main import main; sys.exit(main())'"
NET = """
name: "\u00fcber"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
"""


@pytest.fixture(autouse=True)
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.prototxt").write_text(NET, encoding="utf-8")
    return tmp_path


def caffe(folder: Path, command: str, before: str = "", **env: str) -> tuple[int, str, str]:
    """Run a shell command in which `caffe` stands for the program."""
    line = f"{before} {command.replace('caffe', PROGRAM, 1)}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode()


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
)
def test_what_cannot_be_printed_is_an_error(net: Path, redirection: str, reason: str) -> None:
    status, _, errors = caffe(net, f"caffe summary net.prototxt {redirection}")
    assert (status, errors) == (1, f"caffe: Could not write to standard output: {reason}\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_nobody_to_tell(net: Path, redirection: str) -> None:
    status, output, _ = caffe(net, f"caffe summary net.prototxt {redirection}")
    assert status == 0
    assert "ip" in output
    assert caffe(net, f"caffe summary none.prototxt {redirection}")[0] == 1


def test_a_reader_that_has_seen_enough(net: Path) -> None:
    status, _, errors = caffe(net, "caffe summary net.prototxt | true; exit ${PIPESTATUS[0]}")
    assert (status, errors) == (0, "")


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}])
def test_a_narrow_encoding(net: Path, env: dict[str, str]) -> None:
    status, output, errors = caffe(net, "caffe summary net.prototxt", **env)
    assert (status, errors) == (0, "")
    assert "ber" in output


@pytest.mark.parametrize("limit", [8, 16])  # with fewer Python itself does not start
def test_no_descriptors_left(net: Path, limit: int) -> None:
    status, _, errors = caffe(net, "caffe summary net.prototxt", before=f"ulimit -n {limit};")
    assert status in (0, 1)
    if status:
        assert len(errors.splitlines()) == 1, errors
        assert "Too many open files" in errors


def test_a_training_outlives_its_log(net: Path) -> None:
    (net / "train.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "x" top: "y" dummy_data_param '
        "{ shape { dim: 2 dim: 3 } shape { dim: 2 dim: 4 } } }"
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param '
        "{ num_output: 4 } }"
        'layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" top: "loss" }'
    )
    (net / "solver.prototxt").write_text(
        'net: "train.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "s" '
        "display: 1 solver_mode: CPU"
    )
    status, _, _ = caffe(net, "caffe train -solver solver.prototxt 2>/dev/full >&-")
    assert status == 0
    assert (net / "s_iter_3.solverstate").exists()
