"""What `make overlay` copies runs on an original SSD-Caffe, with its Python and its pycaffe."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import python27

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ("dsod", "grp_dsod", "ssd", "scratchdet")
NEED_THE_ENGINE = ("DSOD300_detection_demo.py", "ablations.py")
DATA = (
    "data/VOC0712Plus/labelmap_voc.prototxt",
    "data/VOC12/labelmap_voc.prototxt",
    "data/coco/coco_voc_map.txt",
)
# What every SSD-Caffe has: its own modules, and what its pycaffe is built on.
PYCAFFE = {"caffe", "caffe.net_spec", "caffe.proto", "caffe.io"}
INSTALLED = {"cv2", "google", "numpy"}


def python_files() -> list[Path]:
    package = ROOT / "python" / "caffe"
    scripts = [path for family in FAMILIES for path in (ROOT / "examples" / family).glob("*.py")]
    scripts = [path for path in scripts if path.name not in NEED_THE_ENGINE]
    return [package / "model_libs.py", *package.glob("models/*.py"), *scripts]


def overlay(target: Path) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make on this machine")
    command = [make, "-C", str(ROOT), "overlay", f"CAFFE_ROOT={target}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_copies_generators_and_scripts_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "ssd caffe"
    (target / "python" / "caffe").mkdir(parents=True)
    done = overlay(target)
    assert done.returncode == 0, done.stderr
    expected = {str(path.relative_to(ROOT)) for path in python_files()} | set(DATA)
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert copied == expected
    for name in copied:
        assert (target / name).read_bytes() == (ROOT / name).read_bytes()
    assert f"copied {len(expected)} files" in done.stdout


def test_wants_a_caffe(tmp_path: Path) -> None:
    done = overlay(tmp_path)
    assert done.returncode != 0
    assert "CAFFE_ROOT must be an SSD-Caffe checkout" in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports; those under `try` may be absent."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = {
        id(node) for each in ast.walk(tree) if isinstance(each, ast.Try) for node in each.body
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.name)
def test_imports_what_an_original_has(path: Path) -> None:
    names = imports_of(path)
    own = {
        ".".join(each.relative_to(ROOT / "python").with_suffix("").parts)
        for each in python_files()
        if "examples" not in each.parts
    }
    for name in names:
        top = name.partition(".")[0]
        assert (
            name in PYCAFFE | own | {"caffe.models"}
            or top in INSTALLED
            or top in sys.stdlib_module_names - {"dataclasses", "typing"}
        ), name


@pytest.mark.parametrize("path", python_files(), ids=lambda path: path.name)
def test_is_python_2_too(path: Path) -> None:
    assert not python27.complaints(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "x = f'{1}'",
        "x: int = 1",
        "def f(a, *, b): pass",
        "def f(a: int): pass",
        "def f() -> int: pass",
        "f(*a, b)",
        "f(**a, **b)",
        "f(\n    **a,\n)",
        "f(\n    *a, b=1,\n)",
        "def f(\n    **a,\n): pass",
        "x = (*a, 1)",
        "x = {**a}",
        "x, *y = z",
        "x = 1_000",
        "x = '\u00e9'",
        "raise A from b",
        "print(1)",
        "x = 1 / 2",
        "super().f()",
        "open('f', encoding='utf-8')",
        "class A(metaclass=B): pass",
        "x = math.gcd(4, 6)",
        "re.compile('x').fullmatch('x')",
    ],
)
def test_python_3_is_noticed(line: str) -> None:
    assert python27.complaints(line)


def test_python_2_accepts_it() -> None:
    python = python27.interpreter()
    if python is None:
        pytest.skip("there is no Python 2.7 on this machine")
    compiled = "import sys\nfor p in sys.argv[1:]: compile(open(p).read(), p, 'exec')"
    command = [python, "-c", compiled, *map(str, python_files())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
