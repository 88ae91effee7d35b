"""The parts of the engine import only parts above them; files stay readable."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = ROOT / "caffe_ssd"
# Each part may import the parts before it, never one after it. docs/architecture.md explains them.
ORDER = [
    "startup",
    "distribution",
    "errors",
    "files",
    "documents",
    "hdf5",
    "random",
    "proto",
    "log",
    "devices",
    "boxes",
    "data",
    "evaluate",
    "fillers",
    "layers",
    "net",
    "drawing",
    "engines",
    "scoring",
    "datasets",
    "serving",
    "solver",
    "report",
    "desk",
    "tools",
    "fitting",
    "cli",
    "__main__",
]
MAX_LINES = 400

ENGINE_FILES = [p for p in sorted(ENGINE.rglob("*.py")) if not p.name.endswith("_pb2.py")]
FACE_FILES = sorted((ROOT / "python" / "caffe").rglob("*.py"))
TOOL_FILES = sorted((ROOT / "lmdb_tools").rglob("*.py"))
GENERATORS = [ROOT / "python/caffe/model_libs.py", *(ROOT / "python/caffe/models").glob("*.py")]


def imported_modules(path: Path) -> set[str]:
    """Every module named in an import anywhere in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def calls_print(path: Path) -> bool:
    """Whether a file prints by itself."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def parts(modules: set[str]) -> set[str]:
    """The parts of the engine among these modules."""
    names = {m.split(".")[1] for m in modules if m.startswith("caffe_ssd.")}
    return names.intersection(ORDER)


def test_every_part_has_a_place() -> None:
    found = {p.relative_to(ENGINE).parts[0].removesuffix(".py") for p in ENGINE_FILES}
    assert found - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", ENGINE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_parts_import_only_upwards(path: Path) -> None:
    if path.parent == ENGINE and path.stem == "__init__":
        return
    rank = ORDER.index(path.relative_to(ENGINE).parts[0].removesuffix(".py"))
    modules = imported_modules(path)
    wrong = [part for part in parts(modules) if ORDER.index(part) > rank]
    assert not wrong, f"{path.relative_to(ROOT)} imports {wrong} from below it"
    if {"cli", "tools", "fitting"} & set(path.parts):  # commands stand above everything
        return
    tops = {module.split(".")[0] for module in modules}
    assert "caffe" not in tops, "the engine must not know the pycaffe face"
    assert "lmdb_tools" not in tops


@pytest.mark.parametrize("path", FACE_FILES + TOOL_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_built_on_the_command_line(path: Path) -> None:
    """What commands share with other packages is `desk`."""
    assert not {"cli", "tools", "fitting"} & parts(imported_modules(path))


def test_only_commands_meet_the_user() -> None:
    """Parts above log, return and raise; `desk` prints."""
    for path in ENGINE_FILES:
        part = path.relative_to(ENGINE).parts[0]
        if part not in ("desk", "tools", "cli", "__init__.py"):
            assert "desk" not in parts(imported_modules(path)), path
            assert not calls_print(path), path


@pytest.mark.parametrize("path", GENERATORS, ids=lambda p: str(p.relative_to(ROOT)))
def test_generators_know_only_pycaffe(path: Path) -> None:
    """They must also run on a build of the original."""
    assert "caffe_ssd" not in {module.split(".")[0] for module in imported_modules(path)}


@pytest.mark.parametrize("path", ENGINE_FILES + FACE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_product_code_never_reads_shared_data() -> None:
    for folder in ("caffe_ssd", "python", "lmdb_tools", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "../shared" not in path.read_text(encoding="utf-8"), path


def test_one_place_calls_layers() -> None:
    """Whoever wants to watch or time a net overrides a method of the runner; see net/runner.py."""
    calls = re.compile(r"\blayer\(\*|\.layer\(\*|layers\[[^]]*\]\(\*")
    found = [
        path.relative_to(ROOT).as_posix()
        for path in ENGINE_FILES + FACE_FILES
        if calls.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["caffe_ssd/net/runner.py"]
