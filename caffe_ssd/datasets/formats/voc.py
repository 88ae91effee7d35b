"""Pascal VOC: an XML file beside each picture, or in Annotations/ beside JPEGImages/.

Written in this project's own layout, so that `convert_annoset FOLDER/ FOLDER/trainval.txt` makes
the database: lists of "picture annotation", a label map, the sizes of the test pictures.

Spec: ssd-data.md section 2.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from caffe_ssd.data.annotation_files import (
    CORNERS,
    AnnotatedBox,
    ReadingRules,
    read_annotation_file,
)
from caffe_ssd.datasets.dataset import TEST, TRAIN, WARNING, Dataset
from caffe_ssd.datasets.folder import Folder
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading
from caffe_ssd.datasets.formats.output import (
    Placed,
    place_pictures,
    plain_number,
    write_label_map,
    write_lines,
    write_xml,
)
from caffe_ssd.documents import parse_xml
from caffe_ssd.errors import CaffeError
from caffe_ssd.files import read_bytes

LISTS = {TRAIN: "trainval", TEST: "test"}
_SNIFFED = 4096
_RULES = ReadingRules(late_difficult=True)


def xml_files(folder: Folder, root_tag: str) -> list[str]:
    """The XML files whose root element has this name, by a look at their beginning."""
    found = []
    for name in folder.ending(".xml"):
        try:
            with open(folder.path(name), "rb") as file:
                start = file.read(_SNIFFED).replace(b"\0", b"")
        except OSError:
            continue
        if f"<{root_tag}>".encode() in start or f"<{root_tag} ".encode() in start:
            found.append(name)
    return found


def _recognise(folder: Folder) -> list[str]:
    return xml_files(folder, "annotation")


def _read(reading: Reading, files: list[str]) -> None:
    good = set(files)
    for name in files:
        _read_file(reading, name)
    for name in reading.folder.ending(".xml"):  # damaged ones have no root to be known by
        if name not in good and reading.folder.picture_beside(name) is not None:
            reading.damaged(name, "it is no VOC annotation")
            good.add(name)
    reading.unannotated()


def _read_file(reading: Reading, name: str) -> None:
    path = reading.folder.path(name)
    try:
        file = read_annotation_file(path, label_type="xml", rules=_RULES)
        picture = reading.folder.picture_beside(name)
        if picture is None:
            picture = _picture_inside(reading.folder, name)
    except CaffeError as error:
        reading.damaged(name, error)
        return
    if file.faults:
        reading.damaged(name, file.faults[0])
        return
    if picture is None:
        reading.missing(PurePosixPath(name).stem, name)
        return
    if boxless := file.counts["objects without a box, left out"]:
        text = "objects without a box; they are left out"
        reading.notes.add("no-box", WARNING, text, f"{name} ({boxless})")
    reading.entries.append(
        Entry(picture=picture, annotation=name, boxes=file.boxes, size=file.size)
    )


def _picture_inside(folder: Folder, name: str) -> str | None:
    """The picture that <filename> names, where none has the annotation's own name."""
    root = parse_xml(read_bytes(folder.path(name)), name)
    return folder.picture_named((root.findtext("filename") or "").strip(), name)


def _write(dataset: Dataset, root: str) -> dict[str, int]:
    return write_voc_layout(dataset, Path(root), link=False)


def write_voc_layout(dataset: Dataset, root: Path, *, link: bool, seed: int = 0) -> dict[str, int]:
    """Write pictures, annotations, lists, sizes and the label map.

    Args:
        dataset: what to write.
        root: an existing folder, with nothing in it that has these names.
        link: see `place_pictures`.
        seed: of the order of the training list, as records are never shuffled later.
    """
    (root / "Annotations").mkdir()
    placed = place_pictures(dataset, root, lambda split: "JPEGImages", link=link, plain=link)
    for each in placed:
        write_xml(root / "Annotations" / f"{each.stem}.xml", _annotation(each))
    write_label_map(dataset, root)
    _write_lists(dataset, root, placed, seed)
    return {}


def _write_lists(dataset: Dataset, root: Path, placed: Sequence[Placed], seed: int) -> None:
    if not dataset.is_split:
        return
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split, name in LISTS.items():
        part = [each for each in placed if each.picture.split == split]
        write_lines(root / "ImageSets" / "Main" / f"{name}.txt", [each.stem for each in part])
        if split == TRAIN:
            random.Random(seed).shuffle(part)
        lines = [f"{each.target} Annotations/{each.stem}.xml" for each in part]
        write_lines(root / f"{name}.txt", lines)
        if split == TEST:
            sizes = [f"{p.stem} {p.picture.size[0]} {p.picture.size[1]}" for p in part]
            write_lines(root / "test_name_size.txt", sizes)


def _annotation(placed: Placed) -> ElementTree.Element:
    height, width = placed.picture.size
    root = ElementTree.Element("annotation")
    target = PurePosixPath(placed.target)
    ElementTree.SubElement(root, "folder").text = target.parent.name
    ElementTree.SubElement(root, "filename").text = target.name
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(value)
    for box in placed.picture.boxes:
        root.append(_object(box))
    return root


def _object(box: AnnotatedBox) -> ElementTree.Element:
    node = ElementTree.Element("object")
    ElementTree.SubElement(node, "name").text = box.category
    # In front of the box: SSD-Caffe loses a flag that follows it.
    ElementTree.SubElement(node, "difficult").text = str(int(box.is_difficult))
    corners = ElementTree.SubElement(node, "bndbox")
    for tag, value in zip(CORNERS, box.corners_px, strict=True):
        ElementTree.SubElement(corners, tag).text = plain_number(value)
    return node


VOC = Format(name="voc", title="Pascal VOC XML", recognise=_recognise, read=_read, write=_write)
