"""What the image is made of; docker/rehearse.sh builds it, with root, a network and minutes."""

from __future__ import annotations

import os
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REHEARSE = ROOT / "docker" / "rehearse.sh"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def rehearse(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", REHEARSE, folder],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_git_ignores_is_no_part_of_the_image() -> None:
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    kept_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for pattern in ignored:
        name = pattern.strip("/")
        assert any(fnmatch(name, rule.removeprefix("**/")) for rule in kept_out), pattern
    assert ".git" in kept_out


def test_what_is_rehearsed_is_what_compose_runs() -> None:
    compose = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    demo = compose.partition("  demo:")[2].partition("\nvolumes:")[0]
    words = re.findall(r'"([^"]+)"', demo)
    assert f'--entrypoint {words[0]} "$image" {" ".join(words[1:])}\n' in REHEARSE.read_text()
    for volume in re.findall(r"- \S*?:(/\S+)", compose):  # the user's own, or new ones are root's
        assert re.search(rf"install -d -o caffe .*{volume}\b", DOCKERFILE), volume


def test_the_stand_in_is_told_from_the_base_image() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.1[0-3]-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "thesis.txt"
    file.write_text("years")
    done = rehearse(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path} exists and is no rehearsal; remove it or choose another" in done.stderr
    assert file.read_text() == "years"
    assert list(tmp_path.iterdir()) == [file]


def test_root_is_needed(tmp_path: Path) -> None:
    nobody = tmp_path / "bin" / "id"
    nobody.parent.mkdir()
    nobody.write_text("#!/bin/sh\necho 1000\n")
    nobody.chmod(0o755)
    done = rehearse(tmp_path / "new", PATH=f"{nobody.parent}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 1
    assert "rehearse.sh: needs root, for chroot and mounts: sudo sh " in done.stderr
    assert not (tmp_path / "new").exists()


def test_dependencies_come_before_the_source_and_are_checked() -> None:
    first = DOCKERFILE.partition("COPY . .")[0]
    assert "COPY requirements requirements" in first
    assert "pip install --no-cache-dir --require-hashes --no-deps" in first
