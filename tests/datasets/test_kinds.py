"""Every kind of finding has a row in docs/data.md, and no row is left over."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_docs_list_every_kind_of_finding() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "caffe_ssd/datasets").rglob("*.py"))
    kinds = set(re.findall(r'\b(?:add|add_all)\(\s*"([a-z-]+)"', text))
    kinds |= set(re.findall(r'\bkind="([a-z-]+)"', text))
    kinds |= set(re.findall(r'^    "([a-z-]+)": \((?:ERROR|WARNING)', text, re.MULTILINE))
    rows = re.findall(
        r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| (?:error|warning|note)", docs(), re.MULTILINE
    )
    listed = [kind.strip("`") for row in rows for kind in row.split(", ")]
    assert len(listed) == len(set(listed)) > 40
    assert set(listed) == kinds


def docs() -> str:
    return (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
