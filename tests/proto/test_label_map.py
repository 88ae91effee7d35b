"""Label maps and their checks."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.proto.label_map import read_label_map

TEXT = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 7 display_name: "a cat" }
item { name: "dog" label: 3 }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "labelmap.prototxt"
    path.write_text(text)
    return path


def test_look_ups(tmp_path: Path) -> None:
    labels = read_label_map(write(tmp_path, TEXT), strict=True)
    assert labels.name_to_label == {"none_of_the_above": 0, "cat": 7, "dog": 3}
    assert labels.label_to_name == {0: "none_of_the_above", 7: "cat", 3: "dog"}
    assert labels.label_to_display_name == {0: "background", 7: "a cat", 3: "dog"}
    assert pickle.loads(pickle.dumps(labels)) == labels


def test_duplicate_labels(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + 'item { name: "kitten" label: 7 }')
    labels = read_label_map(path, unique_names=True)
    assert labels.label_to_name[7] == "kitten"
    assert labels.name_to_label["cat"] == labels.name_to_label["kitten"] == 7
    for checks in ({"strict": True}, {"unique_labels": True}):
        with pytest.raises(DataError, match=r"labelmap.prototxt: label 7 stands more than once"):
            read_label_map(path, **checks)


def test_duplicate_names(tmp_path: Path) -> None:
    path = write(tmp_path, TEXT + 'item { name: "cat" label: 9 }')
    assert read_label_map(path, unique_labels=True).name_to_label["cat"] == 9
    for checks in ({"strict": True}, {"unique_names": True}):
        with pytest.raises(DataError, match=r"name 'cat' stands more than once"):
            read_label_map(path, **checks)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^Could not open file"):
        read_label_map(tmp_path / "none")
