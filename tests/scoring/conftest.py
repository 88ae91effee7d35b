"""A folder with pictures, a database, a small random detector for both, and its weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from caffe_ssd.net.weights import save_binary
from tests.data.databases import picture, write_small_database
from tests.support.tiny_detector import BODY, DATA, INPUT, JUDGE, tiny_detector

LABELS = "".join(
    f'item {{ name: "{name}" label: {i} display_name: "{shown}" }}\n'
    for i, (name, shown) in enumerate((("none", "background"), ("n1", "cat"), ("n2", "dog")))
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_small_database(tmp_path / "lmdb")
    Path("pictures/more").mkdir(parents=True)
    for i, name in enumerate(("b.jpg", "a.png", "more/c.png")):
        cv2.imwrite(f"pictures/{name}", picture(seed=i))
    Path("pictures/notes.txt").write_text("no picture")
    Path("labels.prototxt").write_text(LABELS)
    Path("test.prototxt").write_text(DATA + BODY + JUDGE)
    Path("deploy.prototxt").write_text(INPUT + BODY)
    save_binary(tiny_detector(), "w.caffemodel")
    return tmp_path
