"""examples/shapes/families.py: a tiny run makes table and curves, a second one only reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "shapes" / "families.py"
FLAGS = ("--family", "SSD", "--train", "8", "--test", "20", "--gpu", "none")


def compare(folder: Path, *flags: str) -> list[str]:
    """Run the script into a folder and return the lines it prints."""
    words = [sys.executable, str(SCRIPT), *FLAGS, "--out", str(folder), *flags]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    commands = [line for line in compare(tmp_path, "--max-iter", "2") if line.startswith("$ ")]
    assert len(commands) == 5  # pictures, two databases, training, curves
    head, _, row = (tmp_path / "families.md").read_text().splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert head.split(" | ")[5:10] == ["circle", "square", "triangle", "star", "ring"]
    assert len(cells) == head.count("|") - 1
    assert (cells[0], cells[2]) == ("SSD", "2")
    assert 0 <= float(cells[-1]) <= 1
    assert cv2.imread(str(tmp_path / "families.png")) is not None
    again = compare(tmp_path, "--max-iter", "2")
    assert [line for line in again if line.startswith("$ ")] == commands[-1:]
    assert row in again
