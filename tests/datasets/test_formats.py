"""Every format brings back what was written, down to the bytes of the databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.datasets import FORMATS, Dataset, read_folder, write_folder, write_voc
from caffe_ssd.errors import FileError, UsageError
from lmdb_tools.convert_annoset import main as convert_annoset
from tests.support.annotated import CLASSES, drawn_dataset
from tests.support.golden import BCCD, needs_bccd


def databases(dataset: Dataset, folder: Path) -> dict[tuple[str, bytes], bytes]:
    """All records of the databases that the project's converter makes of a data set."""
    records = {}
    lists = dict(zip(("trainval", "test"), write_voc(dataset, folder), strict=True))
    for split, lines in lists.items():
        database = str(folder / f"{split}_lmdb")
        label_map = f"-label_map_file={folder}/labelmap.prototxt"
        flags = ["-anno_type=detection", label_map, "-encode_type=png", "-encoded"]
        assert convert_annoset([*flags, f"{folder}/", f"{folder}/{split}.txt", database]) == 0
        source = LmdbSource(database)
        assert len(source) == len(lines)
        records.update({(split, key): source[i] for i, key in enumerate(source.keys())})
    return records


def assert_same(want: Dataset, got: Dataset, folder: Path) -> None:
    assert got.classes == want.classes
    assert databases(got, folder / "got") == databases(want, folder / "want")


@pytest.mark.parametrize("name", FORMATS)
def test_written_and_read(name: str, tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "drawn")
    assert write_folder(dataset, tmp_path / "out", name) == {}
    got = read_folder(tmp_path / "out")
    assert got.format == name
    assert not [finding for finding in got.findings if finding.severity != "note"]
    assert_same(dataset, got, tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_without_splits(name: str, tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "drawn", num_test=0)
    write_folder(dataset, tmp_path / "out", name)
    got = read_folder(tmp_path / "out")
    assert got.format == name
    assert not got.is_split
    assert [p.boxes for p in got.pictures] == [p.boxes for p in dataset.pictures]


@pytest.mark.parametrize("name", FORMATS)
def test_difficult_is_kept_or_counted(name: str, tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "drawn", num_test=0)
    first = dataset.pictures[1]
    hard = [first.boxes[0]._replace(is_difficult=True), *first.boxes[1:]]
    dataset.pictures[1] = replace(first, boxes=hard)
    lost = write_folder(dataset, tmp_path / "out", name)
    got = read_folder(tmp_path / "out").pictures[1].boxes
    if name == "yolo":
        assert lost == {"difficult flags": 1}
        assert got == first.boxes
    else:
        assert lost == {}
        assert got == hard


@needs_bccd
@pytest.mark.parametrize("name", FORMATS)
def test_twenty_real_pictures(name: str, tmp_path: Path) -> None:
    whole = read_folder(BCCD)
    assert (len(whole.part("train")), len(whole.part("test"))) == (292, 72)
    assert whole.classes == ["RBC", "WBC", "Platelets"]  # its label map's order
    some = sorted([*whole.part("train")[:15], *whole.part("test")[:5]], key=lambda p: p.name)
    dataset = replace(whole, pictures=some)
    write_folder(dataset, tmp_path / "out", name)
    assert_same(dataset, read_folder(tmp_path / "out"), tmp_path)


def test_classes_without_a_label_map(tmp_path: Path) -> None:
    """Declared orders survive where the format has one; others are alphabetical."""
    for name in FORMATS:
        write_folder(drawn_dataset(tmp_path / f"{name}_drawn"), tmp_path / name, name)
        (tmp_path / name / "labelmap.prototxt").unlink()
        declares = name in ("coco", "yolo", "cvat")
        assert read_folder(tmp_path / name).classes == (CLASSES if declares else sorted(CLASSES))


def test_writing_refuses(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path / "drawn", count=2, num_test=1)
    with pytest.raises(UsageError, match="format is 'pascal'; allowed: voc, coco"):
        write_folder(dataset, tmp_path / "out", "pascal")
    with pytest.raises(FileError, match="exists and is not empty"):
        write_folder(dataset, tmp_path / "drawn", "voc")
    Path(dataset.pictures[0].path).unlink()
    with pytest.raises(FileError, match="No such file"):
        write_folder(dataset, tmp_path / "out", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drawn"]
