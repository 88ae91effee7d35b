"""What is pinned: one version of a package for each Python, the same in every file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def pins(path: Path) -> list[Requirement]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line.rstrip(" \\")) for line in lines if re.match(r"[a-zA-Z]", line)]


def ranges() -> list[Requirement]:
    """The dependencies of pyproject.toml, the extras' included."""
    table = PROJECT.partition("\ndependencies = ")[2].partition("[project.scripts]")[0]
    return [Requirement(text) for text in re.findall(r'"(.+?)"', table)]


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_once_and_within_its_range(version: str) -> None:
    environment = {"python_version": version, "python_full_version": f"{version}.1"}
    chosen: dict[str, str] = {}
    for pin in pins(ROOT / "constraints.txt"):
        if pin.marker is None or Marker(str(pin.marker)).evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in chosen
            chosen[name] = str(pin.specifier).removeprefix("==")
    for wanted in ranges():
        assert wanted.specifier.contains(chosen[canonicalize_name(wanted.name)]), wanted


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_locks_hold_the_same_versions_with_hashes(path: Path) -> None:
    agreed = {str(pin) for pin in pins(ROOT / "constraints.txt")}
    locked = {str(pin) for pin in pins(path)}
    assert locked <= agreed
    assert not any(pin.startswith("torch=") for pin in locked)
    entries = re.split(r"\n(?=[a-zA-Z])", path.read_text(encoding="utf-8"))[1:]
    assert len(entries) == len(locked)
    assert all("--hash=sha256:" in entry for entry in entries)


def test_pytorch_is_pinned_alike() -> None:
    (pin,) = (pin for pin in pins(ROOT / "constraints.txt") if pin.name == "torch")
    table = PROJECT.partition("[tool.uv]")[2]
    assert f'"{pin}"' in table
    assert f'name = "torch", version = "{str(pin.specifier).removeprefix("==")}"' in table
