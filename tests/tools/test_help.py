"""Every tool explains itself, with an example, and refuses a wrong flag in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from caffe_ssd.cli.main import main as caffe
from caffe_ssd.tools import (
    classify,
    detect,
    draw_net,
    extract_features,
    parse_log,
    plot_training_log,
    script_of,
    ssd_detect,
    upgrade_proto,
)

Main = Callable[[Sequence[str]], int]
TOOLS: dict[str, Main] = {
    "classify.py": classify.main,
    "detect.py": detect.main,
    "draw_net": draw_net.main,
    "extract_features": extract_features.main,
    "parse_log": parse_log.main,
    "plot_training_log": plot_training_log.main,
    "ssd_detect": ssd_detect.main,
    "upgrade_net_proto_text": upgrade_proto.net_text,
    "upgrade_net_proto_binary": upgrade_proto.net_binary,
    "upgrade_solver_proto_text": upgrade_proto.solver_text,
}


@pytest.mark.parametrize("name", TOOLS)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOLS[name](["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {name} [flags] ")
    assert name in text.partition("examples:\n")[2]
    assert TOOLS[name](["-no_such_flag"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{name}: unknown flag -no_such_flag; see {name} --help"


def test_scripts_of_the_original_by_their_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert script_of("/opt/caffe/python/detect.py") == "detect"
    assert script_of("python/other.py") is None
    assert script_of("detect.py") is None
    assert caffe(["run", "./tools/extra/parse_log.py", "--help"]) == 0
    assert "usage: parse_log [flags] LOG FOLDER" in capsys.readouterr().out
