"""docs/warnings.md has an entry for every warning that the code can write."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from caffe_ssd import log

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "warnings.md").read_text(encoding="utf-8")
FOLDERS = ("caffe_ssd", "lmdb_tools", "python")
SHORTEST = 8  # characters; shorter pieces of a text say nothing
# Calls whose text is made elsewhere, and what the page says of it.
MADE_ELSEWHERE = {
    "caffe_ssd/net/blob_copy.py": "Skipped: ",
    "caffe_ssd/net/loading.py": "holds numbers that are not finite in",
    "caffe_ssd/proto/text.py": "skipped unknown field",
    "caffe_ssd/solver/advice.py": "the loss has hardly fallen",
    "caffe_ssd/solver/resume.py": "was written with other settings",
    "caffe_ssd/solver/watchdog.py": "the loss is 0:",
    "lmdb_tools/annoset.py": "what the converter repaired or dropped",
    "lmdb_tools/conversion_summary.py": "what the converter repaired or dropped",
    "python/caffe/old_scripts/translate.py": "as in Python 2; for Python 3 say",
}


def warnings() -> Iterator[tuple[str, int, list[str]]]:
    """File, line and the fixed parts of the text of each call of `warning`."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "warning":
                    where = path.relative_to(ROOT).as_posix()
                    yield where, node.lineno, pieces(node.args[0])


def advice() -> Iterator[list[str]]:
    """The fixed parts of what the advisor and the watchdog say."""
    for name in ("advice.py", "watchdog.py"):
        for node in ast.walk(ast.parse((ROOT / "caffe_ssd" / "solver" / name).read_text())):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_call and node.func.attr.startswith("_tell"):
                yield from ([pieces(node.args[-1])] if len(node.args) > 1 else [])


def pieces(node: ast.expr) -> list[str]:
    """What stands between the values of a text."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [str(each.value) for each in values if isinstance(each, ast.Constant)]
    parts = [part.strip(" ;:.") for text in texts for part in re.split(r"%[a-z]|`", text)]
    return [part for part in parts if len(part) >= SHORTEST]


@pytest.mark.parametrize(("where", "line", "parts"), list(warnings()))
def test_every_warning_has_an_entry(where: str, line: int, parts: list[str]) -> None:
    told = parts or [MADE_ELSEWHERE.get(where, f"(nothing: see MADE_ELSEWHERE for {where})")]
    for part in told:
        assert part in PAGE, f"{where}:{line}: docs/warnings.md has no entry with {part!r}"


@pytest.mark.parametrize("parts", list(advice()), ids=lambda parts: parts[0][:30])
def test_every_piece_of_advice_has_an_entry(parts: list[str]) -> None:
    assert any(part in PAGE for part in parts), f"docs/warnings.md has no entry with {parts}"


def test_log_lines_that_are_warnings_have_one_too() -> None:
    lines = [line for line in vars(log).values() if isinstance(line, log.Line)]
    texts = [line.template for line in lines if line.level > 20]
    assert texts
    for text in texts:
        assert text.partition("{")[0].strip() in PAGE, text


def test_texts_made_elsewhere_are_still_made() -> None:
    files = {where for where, _, parts in warnings() if not parts}
    assert files == set(MADE_ELSEWHERE)
