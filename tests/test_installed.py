"""The package as people install it: a wheel in an environment of its own, away from the checkout.

The environment shares this one's dependencies, through links to all but our own package, so that
neither the checkout nor an editable install can stand in for a file that the wheel lacks.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from caffe_ssd import __version__
from caffe_ssd.cli.main import ACTIONS
from caffe_ssd.distribution import NAME, SHARE, install_hint, shipped_files

ROOT = Path(__file__).resolve().parents[1]
# What a build reads.
SOURCES = ("caffe_ssd", "lmdb_tools", "python", "examples", "data")
FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
TOPS = {"caffe": ROOT / "python", "caffe_ssd": ROOT, "lmdb_tools": ROOT}


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and an empty folder to work in."""

    wheel: Path
    python: Path
    work: Path

    def run(self, *words: str) -> str:
        """Run a command of the environment; returns what it prints."""
        program = self.python.with_name(words[0])
        clean = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
        clean |= {"MPLBACKEND": "Agg", "PATH": f"{self.python.parent}{os.pathsep}{clean['PATH']}"}
        done = subprocess.run(
            [str(program), *words[1:]],
            cwd=self.work,
            env=clean,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves files beside its source; a stale build lies in it."""
    source = tmp_path_factory.mktemp("source")
    for folder in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, source)
    for folder in ("tests", "benchmarks"):
        (source / folder).mkdir()
        (source / folder / "__init__.py").touch()
    for stale in ("build/lib/caffe_ssd/gone.py", f"build/lib/caffe_ssd/{SHARE}/data/gone.md"):
        (source / stale).parent.mkdir(parents=True, exist_ok=True)
        (source / stale).touch()
    (source / "data/VOC0712/trainval.txt").touch()
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", source / "wheels", source], check=True)
    (made,) = (source / "wheels").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    if not hasattr(os, "symlink") or sys.platform == "win32":
        pytest.skip("links are not for everybody here")
    folder = tmp_path_factory.mktemp("installed")
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    own = {"caffe", "caffe_ssd", "lmdb_tools"}
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        metadata = re.fullmatch(r"(.+?)-.*\.(dist|egg)-info", entry.name)
        is_own = metadata and metadata[1].replace("_", "-") in (NAME, "caffe-ssd")
        if not (is_own or entry.name in own or entry.suffix == ".pth"):
            (dependencies / entry.name).symlink_to(entry)
    venv.create(folder / "env", symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    work = folder / "work"
    work.mkdir()
    return Installed(wheel, python, work)


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        path.relative_to(root).as_posix()
        for top, root in TOPS.items()
        for path in (root / top).rglob("*.py")
    }
    shared = {f"caffe_ssd/{SHARE}/{file.as_posix()}" for file in shipped_files(ROOT)}
    others = {"caffe_ssd/py.typed", "caffe_ssd/proto/caffe.proto", "caffe_ssd/proto/caffe_pb2.pyi"}
    others |= {"caffe_ssd/serving/page.html", "caffe_ssd/report/page.css"}
    metadata = {name for name in held if ".dist-info/" in name}
    assert held == modules | shared | others | metadata


def test_every_example_and_label_map_of_the_project_comes_along() -> None:
    git = ["git", "-C", str(ROOT), "ls-files", "examples", "data"]
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no git checkout")
    tracked = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\n")
    assert {file.as_posix() for file in shipped_files(ROOT)} == {name for name in tracked if name}


def test_modules_are_the_wheels(installed: Installed) -> None:
    script = (
        "import importlib, pkgutil\n"
        f"for top in {sorted(TOPS)}:\n"
        "    package = importlib.import_module(top)\n"
        "    for found in pkgutil.walk_packages(package.__path__, top + '.'):\n"
        f"        if not found.name.startswith('caffe_ssd.{SHARE}'):\n"
        "            print(importlib.import_module(found.name).__file__)\n"
        "from caffe.model_libs import *\n"
        "VGGNetBody, CreateMultiBoxHead\n"
    )
    files = installed.run("python", "-c", script).splitlines()
    assert len(files) > 250
    assert all(Path(file).is_relative_to(installed.python.parents[1]) for file in files)


def test_versions_agree(installed: Installed) -> None:
    script = (
        f"from importlib.metadata import version; import caffe_ssd; "
        f"print(version({NAME!r}), caffe_ssd.__version__)"
    )
    assert installed.run("python", "-c", script).split() == [__version__, __version__]
    for words in (["caffe", "--version"], ["python", "-m", "caffe_ssd", "-version"]):
        assert installed.run(*words).startswith(f"{NAME} {__version__} (PyTorch ")


def test_every_command_has_help(installed: Installed) -> None:
    assert "usage: caffe <action>" in installed.run("caffe", "--help")
    # One process for all actions, as each would import PyTorch anew.
    script = (
        "import contextlib\n"
        "from caffe_ssd.cli.main import ACTIONS, main\n"
        "for action in ACTIONS:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([action, '--help'])\n"
    )
    text = installed.run("python", "-c", script)
    assert all(f"usage: caffe {action}" in text for action in ACTIONS)
    script = (
        "from importlib.metadata import distribution\n"
        f"for entry in distribution({NAME!r}).entry_points:\n"
        "    if entry.load()(['--help']) == 0:\n"
        "        print('explained', entry.name)\n"
    )
    text = installed.run("python", "-c", script)
    scripts = {path.name for path in installed.python.parent.iterdir()}
    explained = set(re.findall(r"explained (\w+)", text))
    assert explained >= {"caffe", "convert_imageset", "extract_features", "ssd_detect"}
    assert scripts >= explained
    for tool in ("convert_annoset", "upgrade_solver_proto_text"):
        assert f"usage: {tool}" in installed.run(tool, "--help")


def test_printed_commands_work_where_they_are_printed(installed: Installed) -> None:
    """From nothing but the wheel to a net that detects, and its picture."""
    (listed, *_) = json.loads(installed.run("caffe", "models", "DSOD300", "-json"))
    commands = listed["commands"]
    installed.run(*shlex.split(commands["first"]))
    for verb in ("train", "score"):
        assert (installed.work / shlex.split(commands[verb])[1]).is_file()
    assert "caffe examples" not in installed.run("caffe", "models", "DSOD300")
    installed.run(*shlex.split("python -m lmdb_tools.shapes shapes --train 1 --test 1"))
    train = "python examples/shapes/DSOD_shapes.py --no-run --gpu none --num-test-image 1"
    installed.run(*shlex.split(train), "--model-dir", "m", "--job-dir", "m", "--output-dir", "m")
    save = "import caffe; caffe.Net('m/deploy.prototxt', caffe.TEST).save('m/x.caffemodel')"
    installed.run("python", "-c", save)
    picture = next((installed.work / "shapes" / "JPEGImages").iterdir())
    flags = ["-model", "m/deploy.prototxt", "-weights", "m/x.caffemodel", "-threshold", "0"]
    labels = ["-label_map", "shapes/labelmap_shapes.prototxt"]
    assert picture.name in installed.run("caffe", "detect", str(picture), *flags, *labels)
    installed.run("caffe", "draw", "m/deploy.prototxt", "net.svg")
    assert "</svg>" in (installed.work / "net.svg").read_text(encoding="utf-8")


def test_one_name_everywhere() -> None:
    declared = re.search(r'^name = "(.+?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert declared[1] == NAME
    assert install_hint("onnx") == f"pip install '{NAME}[onnx]'"
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name, extra in re.findall(r"pip install '([\w-]+)\[(\w+)\]'", page.read_text()):
            assert name == NAME, page
            assert re.search(rf"^{extra} = ", extras, re.MULTILINE), page
