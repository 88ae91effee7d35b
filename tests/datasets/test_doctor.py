"""What is said of ten defects, each made by hand, and that nothing is said of a folder without."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets import Dataset, Finding, check, read_folder, repaired, write_folder
from tests.support.annotated import drawn_dataset

Defect = Callable[[Path], None]


def good_folder(folder: Path) -> Path:
    """A VOC folder of 70 pictures of one size without any fault."""
    rng = np.random.default_rng(5)
    dataset = drawn_dataset(folder / "drawn", count=70, num_test=20, same_size=(90, 120))
    pictures = []
    for picture in dataset.pictures:
        corner = rng.integers(0, 40, (3, 2))
        boxes = [
            AnnotatedBox(name, float(x), float(y), float(x + 30), float(y + 25), False)
            for name, (x, y) in zip(dataset.classes, corner.tolist(), strict=True)
        ]
        pictures.append(replace(picture, boxes=boxes))
    write_folder(replace(dataset, pictures=pictures), folder / "voc", "voc")
    return folder / "voc"


def edit(folder: Path, stem: str, change: Callable[[ElementTree.Element], object]) -> None:
    path = folder / "Annotations" / f"{stem}.xml"
    tree = ElementTree.parse(path)
    change(tree.getroot())
    tree.write(path)


def set_corners(folder: Path, stem: str, **corners: str) -> None:
    """Change corners of the first box."""

    def change(root: ElementTree.Element) -> None:
        for name, value in corners.items():
            node = root.find(f"object/bndbox/{name}")
            assert node is not None
            node.text = value

    edit(folder, stem, change)


def no_boxes(folder: Path) -> None:
    def change(root: ElementTree.Element) -> None:
        for node in root.findall("object"):
            root.remove(node)

    edit(folder, "picture_004", change)


def misspelt(folder: Path) -> None:
    def change(root: ElementTree.Element) -> None:
        node = root.find("object/name")
        assert node is not None
        node.text = "rimg"

    edit(folder, "picture_004", change)


def swapped(folder: Path) -> None:
    set_corners(folder, "picture_004", xmin="60", xmax="20")


def corrupt(folder: Path) -> None:
    path = folder / "JPEGImages" / "picture_004.png"
    path.write_bytes(path.read_bytes()[:100])


def duplicate(folder: Path) -> None:
    copy = (folder / "JPEGImages" / "picture_004.png").read_bytes()
    (folder / "JPEGImages" / "picture_065.png").write_bytes(copy)


def one_pixel(folder: Path) -> None:
    set_corners(folder, "picture_004", xmin="20", xmax="21")


def unicode_names(folder: Path) -> None:
    for path in (*folder.rglob("picture_004.*"),):
        path.rename(path.with_name(path.name.replace("picture_004", "bilde_på_norsk_ø")))
    for path in folder.rglob("*.txt"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("picture_004", "bilde_på_norsk_ø"), encoding="utf-8")


def with_exif(data: bytes, orientation: int) -> bytes:
    """A JPEG file that states an orientation."""
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x112, 3, 1, orientation, 0, 0)
    segment = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def rotated(folder: Path) -> None:
    path = folder / "JPEGImages" / "picture_006.jpg"
    path.write_bytes(with_exif(path.read_bytes(), 6))


def gray(folder: Path) -> None:
    path = folder / "JPEGImages" / "picture_004.png"
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def mixed_sizes(folder: Path) -> None:
    path = folder / "JPEGImages" / "picture_004.png"
    image = cv2.imread(str(path))
    assert image is not None
    path.write_bytes(cv2.imencode(".png", cv2.resize(image, (480, 90)))[1].tobytes())

    def change(root: ElementTree.Element) -> None:
        node = root.find("size/width")
        assert node is not None
        node.text = "480"

    edit(folder, "picture_004", change)


# defect, kind, severity, beginning of the text, where
TEN: list[tuple[Defect, str, str, str, list[str]]] = [
    (
        no_boxes,
        "no-boxes",
        "warning",
        "1 picture has no boxes: all on them is learnt as background",
        ["JPEGImages/picture_004.png"],
    ),
    (
        misspelt,
        "misspelt",
        "warning",
        "class 'rimg' (1 box) may be class 'ring' (69 boxes), misspelt",
        ["JPEGImages/picture_004.png"],
    ),
    (
        swapped,
        "swapped",
        "error",
        "1 box has swapped corners (xmin above xmax, or ymin above ymax)",
        ["JPEGImages/picture_004.png"],
    ),
    (
        corrupt,
        "unreadable",
        "error",
        "pictures that cannot be read; they are left out",
        ["JPEGImages/picture_004.png: cannot be decoded as an image (100 bytes)"],
    ),
    (
        duplicate,
        "leak",
        "error",
        "1 picture is in both train and test, the same file",
        ["JPEGImages/picture_004.png = JPEGImages/picture_065.png"],
    ),
    (
        one_pixel,
        "one-pixel",
        "warning",
        "1 box is one pixel wide or high: a slip of the mouse?",
        ["JPEGImages/picture_004.png"],
    ),
    (
        unicode_names,
        "unicode-names",
        "note",
        "1 name has letters beyond ASCII; all parts of this program take them",
        ["JPEGImages/bilde_på_norsk_ø.png"],
    ),
    (
        rotated,
        "rotated",
        "warning",
        "pictures that their EXIF tag turns, annotated as they are stored; their boxes are turned",
        ["JPEGImages/picture_006.jpg"],
    ),
    (
        gray,
        "gray",
        "warning",
        "1 picture is gray, the others are not: data layers need all alike",
        ["JPEGImages/picture_004.png"],
    ),
    (
        mixed_sizes,
        "sizes",
        "warning",
        "pictures have 2 sizes, 90 to 90 pixels high and 120 to 480 wide, and shapes from 1.33 to",
        ["JPEGImages/picture_004.png"],
    ),
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return good_folder(tmp_path_factory.mktemp("good"))


def copy_of(good: Path, target: Path) -> Path:
    shutil.copytree(good, target)
    return target


def findings_of(folder: Path) -> tuple[Dataset, list[Finding]]:
    dataset = read_folder(folder)
    return dataset, check(dataset)


def test_nothing_is_found_where_nothing_is_wrong(good: Path) -> None:
    dataset, findings = findings_of(good)
    assert (len(dataset.part("train")), len(dataset.part("test"))) == (50, 20)
    assert findings == []


@pytest.mark.parametrize(
    ("defect", "kind", "severity", "text", "where"), TEN, ids=[each[1] for each in TEN]
)
def test_ten_defects(
    good: Path,
    tmp_path: Path,
    defect: Defect,
    kind: str,
    severity: str,
    text: str,
    where: list[str],
) -> None:
    folder = copy_of(good, tmp_path / "voc")
    defect(folder)
    _, findings = findings_of(folder)
    found = [finding for finding in findings if finding.kind == kind]
    assert len(found) == 1, findings
    assert found[0].severity == severity
    assert found[0].text.startswith(text)
    assert [*found[0].where][: len(where)] == where
    # One defect may show in more than one way, but never in something that is not there.
    also = {"misspelt": {"few", "not-in-test"}, "one-pixel": {"tiny"}, "rotated": {"sizes"}}
    others = {finding.kind for finding in findings} - {kind} - also.get(kind, set())
    assert not others


def test_repaired(tmp_path: Path) -> None:
    """Corners in order, boxes cut, none empty, none twice; the rest stays as it is."""
    dataset = drawn_dataset(tmp_path, count=2, num_test=0, same_size=(60, 80))
    boxes = [
        AnnotatedBox("ring", 40, 10, 20, 30, False),
        AnnotatedBox("ring", -5, 50, 30, 70, True),
        AnnotatedBox("ring", 90, 10, 95, 30, False),
        AnnotatedBox("ring", 3, 3, 3, 9, False),
        AnnotatedBox("ring", 20, 10, 40, 30, False),
        AnnotatedBox("blåbær", 1.5, 2.5, 80, 60, False),
    ]
    given = replace(dataset, pictures=[replace(dataset.pictures[0], boxes=boxes)])
    got = repaired(given)
    assert got.pictures[0].boxes == [
        AnnotatedBox("ring", 20, 10, 40, 30, False),
        AnnotatedBox("ring", 0, 50, 30, 60, True),
        AnnotatedBox("blåbær", 1.5, 2.5, 80, 60, False),
    ]
    assert {finding.kind for finding in got.findings} == {"repair"}
    assert given.pictures[0].boxes == boxes
    faults = {finding.kind for finding in check(given)}
    assert {"swapped", "outside", "elsewhere", "empty"} <= faults
    assert not (faults - {"few"}) & {finding.kind for finding in check(got)}


def test_marked_twice(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path, count=2, num_test=0, same_size=(60, 80))
    boxes = [
        AnnotatedBox("ring", 10, 10, 60, 50, False),
        AnnotatedBox("ring", 10, 10, 60, 51, False),
        AnnotatedBox("green square", 10, 11, 60, 50, False),
    ]
    given = replace(dataset, pictures=[replace(dataset.pictures[0], boxes=boxes)])
    found = {finding.kind: finding.text for finding in check(given)}
    assert found["twice"] == "1 object is marked twice with the same class"
    assert found["two-classes"] == "2 objects are marked twice with different classes"


def test_classes_taken_for_each_other(good: Path) -> None:
    """Large and small objects, whose names are swapped on one picture."""
    dataset = read_folder(good)
    pictures = []
    rng = np.random.default_rng(2)
    for index, picture in enumerate(dataset.pictures):
        names = ["ring", "green square"]
        if index == 7:
            names.reverse()
        x, y = rng.uniform(0, 8, 2)
        boxes = [
            AnnotatedBox(names[0], x, y, x + 60 + y, y + 55 + x, False),
            AnnotatedBox(names[1], 70 + x, 60 + y, 80 + x, 70 + y, False),
        ]
        pictures.append(replace(picture, boxes=boxes))
    found = [f for f in check(replace(dataset, pictures=pictures)) if f.kind == "classes-swapped"]
    assert len(found) == 1
    assert [*found[0].where] == [dataset.pictures[7].name]


def test_a_part_without_a_class(good: Path) -> None:
    dataset = read_folder(good)

    def without(name: str, split: str) -> set[tuple[str, str]]:
        pictures = [
            replace(p, boxes=[b for b in p.boxes if b.category != name or p.split != split])
            for p in dataset.pictures
        ]
        return {(f.kind, f.severity) for f in check(replace(dataset, pictures=pictures))}

    assert without("ring", "train") == {("not-in-train", "error")}
    assert without("ring", "test") == {("not-in-test", "warning")}


def test_not_one_box(good: Path) -> None:
    dataset = read_folder(good)
    bare = replace(dataset, pictures=[replace(p, boxes=[]) for p in dataset.pictures])
    assert [(f.kind, f.severity) for f in check(bare)] == [("no-boxes", "error")]


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("", "error"),
        ("two\nlines", "error"),
        ("bell\a", "error"),
        ("none_of_the_above", "error"),
        ("Background", "warning"),
        ("two words", None),
        ("no\u00a0break", None),
    ],
)
def test_names_of_classes(name: str, severity: str | None, tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path, 4, 0)
    pictures = [
        replace(each, boxes=[box._replace(category=name) for box in each.boxes])
        for each in dataset.pictures
    ]
    found = check(replace(dataset, pictures=pictures, classes=[name]))
    severities = [each.severity for each in found if each.kind == "class-name"]
    assert severities == ([] if severity is None else [severity])
